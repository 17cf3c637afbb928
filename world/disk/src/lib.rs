//! real files behind Disk and Folder
