//! Examples beneath the help of commands whose files have none; subcommands show their parent's.

pub(super) const STATUS: &str = "\
Examples:
  holm status
  holm status --endpoint 10.0.0.7:2379 --cacert ca.pem
  holm status --json | jq .retained_bytes
  holm status --json | jq '.sites[] | {name, role, behind, is_cut_off}'

At one site of several it shows all of them: who leads, who lags, how long a round trip takes, who is cut off.
Against an etcd it shows what an etcd tells.";

pub(super) const LEASE: &str = "\
Examples:
  holm lease grant 60               a lease of a minute; prints its id
  holm put a 1 --lease 694d7550     a key that ends with it
  holm lease keep-alive 694d7550    until Ctrl-C
  holm lease ttl 694d7550 --keys
  holm lease revoke 694d7550        and its keys are gone";

pub(super) const COMPACT: &str = "\
Examples:
  holm compact 1200                 history before revision 1200 is forgotten
  holm compact 1200 --physical      and wait until the index holds nothing of it

`holm status` shows the newest revision and how far history was compacted.";

pub(super) const SNAPSHOT: &str = "\
Examples:
  holm snapshot save backup.db      while the node serves
  holm snapshot status backup.db    is the file whole, and what is in it
  holm snapshot restore backup.db --data-dir new";

pub(super) const USER: &str = "\
Examples:
  holm user add root --password s3cret
  holm user grant-role root root
  holm user list
  holm user passwd alice < new-password";

pub(super) const ROLE: &str = "\
Examples:
  holm role add jobs
  holm role grant jobs readwrite /jobs/ --prefix
  holm role get jobs
  holm user grant-role alice jobs";

pub(super) const AUTH: &str = "\
Examples:
  holm user add root --password s3cret && holm role add root && holm user grant-role root root
  holm auth enable
  holm auth status
  holm get a --user alice:secret
  holm auth token --user alice:secret";

pub(super) const ALARM: &str = "\
Examples:
  holm alarm list
  holm alarm disarm                 clear them all; those that a node raised by itself clear by themselves";

pub(super) const MEMBER: &str = "\
Examples:
  holm member list
  holm member list --json";
