//! What a profile has seen so far, added up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::report::{Cost, LayerCost, OpCost, Phase};

/// What is added up in one place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) phase: Phase,
    pub(super) layer: Option<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Table {
    rows: HashMap<Key, Cost>,
    /// The time in operations of the thread that began the profile.
    pub(super) own: Duration,
}

impl Table {
    pub(super) fn add(&mut self, key: Key, cost: Cost, own: bool) {
        if own {
            self.own += cost.time;
        }
        *self.rows.entry(key).or_default() += cost;
    }

    /// Adds all that another table has.
    pub(super) fn extend(&mut self, other: &Table) {
        self.own += other.own;
        other
            .rows
            .iter()
            .for_each(|(key, cost)| *self.rows.entry(key.clone()).or_default() += *cost);
    }

    /// A row for each operation and phase, the slowest first.
    pub(super) fn ops(&self) -> Vec<OpCost> {
        let mut found: HashMap<(&'static str, Phase), Cost> = HashMap::new();
        for (key, cost) in &self.rows {
            *found.entry((key.name, key.phase)).or_default() += *cost;
        }
        let row = |((name, phase), cost)| OpCost { name, phase, cost };
        let mut rows: Vec<OpCost> = found.into_iter().map(row).collect();
        rows.sort_by(|a, b| b.cost.time.cmp(&a.cost.time).then(a.name.cmp(b.name)));
        rows
    }

    /// A row for each layer, the slowest first.
    pub(super) fn layers(&self) -> Vec<LayerCost> {
        let mut found: HashMap<&str, LayerCost> = HashMap::new();
        for (key, cost) in &self.rows {
            let path = key.layer.as_deref().unwrap_or(LayerCost::NONE);
            let row = match found.entry(path) {
                Entry::Occupied(row) => row.into_mut(),
                Entry::Vacant(place) => place.insert(LayerCost::new(path)),
            };
            *row.of_mut(key.phase) += *cost;
        }
        let mut rows: Vec<LayerCost> = found.into_values().collect();
        rows.sort_by(|a, b| b.all().time.cmp(&a.all().time).then(a.path.cmp(&b.path)));
        rows
    }
}
