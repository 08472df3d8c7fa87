//! Damages rows of the copy.
//!
//! Input: a pace. Output: each row that is damaged is in the books before it is.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    table::{Damage, Kind},
    writer::{Scene, until_done},
};

const ALL: [Damage; 5] = [
    Damage::Missing,
    Damage::Note,
    Damage::Extra,
    Damage::NoNote,
    Damage::Price,
];

/// Damages so many rows of each kind at once.
pub async fn burst(scene: &Scene, count: i64, seed: u64) {
    let mut planter = Planter::new(scene, seed);
    for damage in ALL {
        for _ in 0..count {
            planter.plant(damage).await;
        }
    }
}

/// Damages a row now and then, until it is over.
pub async fn plant(scene: Arc<Scene>, pause: Duration, seed: u64) {
    let mut planter = Planter::new(&scene, seed);
    for damage in ALL.into_iter().cycle() {
        sleep(pause.mul_f64(planter.random.f64() * 2.0)).await;
        if scene.is_over() {
            return;
        }
        planter.plant(damage).await;
    }
}

struct Planter<'s> {
    scene: &'s Scene,
    random: fastrand::Rng,
    conn: Option<final_tests::Conn>,
}

impl<'s> Planter<'s> {
    fn new(scene: &'s Scene, seed: u64) -> Self {
        Self {
            scene,
            random: fastrand::Rng::with_seed(seed),
            conn: None,
        }
    }

    async fn plant(&mut self, damage: Damage) {
        let id = loop {
            let tenth = self.random.i64(1..=self.scene.rows / 10);
            let id = match damage {
                // The source has even ids alone.
                Damage::Extra => tenth * 20 + 1,
                _ => tenth * 20,
            };
            if self.scene.books.plant(id, damage) {
                break id;
            }
        };
        let sql = Kind::of(&self.scene.target).damage(id, damage);
        until_done(&self.scene.target, &mut self.conn, &sql).await;
    }
}
