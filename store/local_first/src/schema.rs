//! Which lists of a document merge, and by what: the annotations that Kubernetes uses.
//!
//! Without a schema maps merge field by field and lists are replaced as a whole. The schema is
//! an OpenAPI one, of which `properties`, `additionalProperties`, `items`,
//! `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and `x-kubernetes-map-type` count.
//!
//! What would surprise: only the site where a put comes in reads it. What the put changes goes
//! out path by path, so sites whose schemas differ for a while still agree.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json::Json;
use crate::kind::Unfit;

/// How a list merges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum List {
    /// Not at all.
    #[default]
    Atomic,
    /// Its items are members of a set.
    Set,
    /// Its items are objects, told apart by these fields.
    Map(Vec<String>),
}

/// What is known of a part of a document and of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub(crate) list: List,
    /// An object that is replaced as a whole.
    pub(crate) is_atomic: bool,
    fields: BTreeMap<String, Self>,
    /// Of fields that are not named.
    rest: Option<Box<Self>>,
    items: Option<Box<Self>>,
}

/// Of what no schema speaks: objects merge, lists do not.
pub(crate) static PLAIN: Schema = Schema {
    list: List::Atomic,
    is_atomic: false,
    fields: BTreeMap::new(),
    rest: None,
    items: None,
};

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// If it is no JSON, or if an annotation says what is not known.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unfit> {
        Self::of(&Json::parse(bytes)?)
    }

    fn of(json: &Json) -> Result<Self, Unfit> {
        let known = json
            .fields()
            .ok_or_else(|| unknown("a schema that is no object"))?;
        let text = |name: &str| known.get(name).and_then(Json::text);
        let list = match text("x-kubernetes-list-type") {
            None | Some("atomic") => List::Atomic,
            Some("set") => List::Set,
            Some("map") => List::Map(keys(known.get("x-kubernetes-list-map-keys"))?),
            Some(other) => return Err(unknown(other)),
        };
        let is_atomic = match text("x-kubernetes-map-type") {
            None | Some("granular") => false,
            Some("atomic") => true,
            Some(other) => return Err(unknown(other)),
        };
        let part = |name: &str| match known.get(name) {
            // `additionalProperties` may be true or false, which says nothing of lists.
            Some(it @ Json::Object(_)) => Self::of(it).map(|it| Some(Box::new(it))),
            Some(_) | None => Ok(None),
        };
        let mut fields = BTreeMap::new();
        if let Some(named) = known.get("properties").and_then(Json::fields) {
            for (name, it) in named {
                fields.insert(name.clone(), Self::of(it)?);
            }
        }
        Ok(Self {
            list,
            is_atomic,
            fields,
            rest: part("additionalProperties")?,
            items: part("items")?,
        })
    }

    /// What is known of a field.
    pub(crate) fn field(&self, name: &str) -> &Self {
        let rest = || self.rest.as_deref().unwrap_or(&PLAIN);
        self.fields.get(name).unwrap_or_else(rest)
    }

    /// What is known of a list's items.
    pub(crate) fn item(&self) -> &Self {
        self.items.as_deref().unwrap_or(&PLAIN)
    }
}

fn unknown(found: &str) -> Unfit {
    let found = found.to_owned();
    Unfit::Schema { found }
}

fn keys(found: Option<&Json>) -> Result<Vec<String>, Unfit> {
    let wrong = || unknown("a list of type map without x-kubernetes-list-map-keys");
    let Some(Json::Array(items)) = found else {
        return Err(wrong());
    };
    let keys: Option<Vec<String>> = items
        .iter()
        .map(|it| it.text().map(str::to_owned))
        .collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(wrong)
}
