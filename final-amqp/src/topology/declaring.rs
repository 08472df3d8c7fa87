//! Declares a list of things, and goes on behind each refusal.
//!
//! Input: the wanted things, in order, and what may be declared. State: the steps that are left. Output: the
//! obstacles. A thing without an obstacle is there, or RabbitMQ does not let this user see whether it is.
//!
//! ```text
//! declare ── other properties ─▶ taken as it is (an exchange; a queue only with `Declare::Missing`)
//!    │ └──── no permission ────▶ look ── not there ─▶ obstacle: the refusal
//!    └◀── not there ── look                (a look is the first step once the server has refused some)
//! bind ── no permission ─▶ taken for bound
//! ```

use std::{collections::VecDeque, sync::Arc};

use lapin::{Connection, Error, Result};

use super::{
    existing::{Existing, existing},
    pipeline::Pipeline,
    refused::Refused,
    wanted::{How, Thing, Wanted},
};
use crate::{code, declare::Declare, error::reply_code, refusal::is_inequivalent};

/// A thing that is needed, and cannot be had.
#[derive(Debug)]
pub(crate) struct Obstacle {
    pub(crate) wanted: Wanted,
    pub(crate) error: Error,
}

/// One run through a list.
pub(super) struct Declaring<'a> {
    declare: Declare,
    refused: &'a Refused,
    /// How exchanges are asked for first, and how queues are. The last refusal decides: each refusal costs a
    /// channel, and the next thing is probably like the last one.
    exchanges: How,
    queues: How,
    steps: VecDeque<Step>,
    obstacles: Vec<Obstacle>,
}

struct Step {
    wanted: Wanted,
    /// How it is asked for now, if not in the usual way.
    how: Option<How>,
    /// Why it was not declared.
    refusal: Option<Error>,
    /// How often it was declared with other arguments than ours, to learn which it has.
    probes: u8,
}

/// The arguments that [`existing`] asks for are fewer.
const MOST_PROBES: u8 = 4;

impl<'a> Declaring<'a> {
    pub(super) fn new(declare: Declare, refused: &'a Refused) -> Self {
        let first = match declare {
            Declare::Nothing => How::Look,
            _ if refused.has_denials() => How::Look,
            Declare::All | Declare::Missing => How::Declare,
        };
        Self {
            declare,
            refused,
            exchanges: first,
            queues: first,
            steps: VecDeque::new(),
            obstacles: Vec::new(),
        }
    }

    /// Declares all of these. Fails if the connection is lost or does not answer.
    pub(super) async fn run(
        mut self,
        pipeline: &mut Pipeline,
        connection: &Connection,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<Obstacle>> {
        let steps = wanted.into_iter().map(|wanted| Step {
            wanted,
            how: None,
            refusal: None,
            probes: 0,
        });
        self.steps = steps.filter(|step| self.is_to_do(&step.wanted)).collect();
        while !self.steps.is_empty() {
            let requests: Vec<_> = self
                .steps
                .iter()
                .map(|step| (&step.wanted, self.how(step)))
                .collect();
            let answered = pipeline.ask(connection, &requests).await?;
            let hows: Vec<_> = requests.iter().map(|(_, how)| *how).collect();
            for (step, how) in self.steps.drain(..answered.done).zip(&hows) {
                let thing = step.wanted.thing();
                match how {
                    How::Declare if step.probes > 0 => self.refused.take(thing),
                    How::Declare => self.refused.forget(&thing),
                    How::Look => {}
                }
            }
            if let Some(error) = answered.refusal
                && let Some(how) = hows.get(answered.done)
                && let Some(step) = self.steps.pop_front()
            {
                self.judge(step, *how, error);
            }
        }
        Ok(self.obstacles)
    }

    /// Leaves out the bindings that are not ours to make.
    fn is_to_do(&self, wanted: &Wanted) -> bool {
        !wanted.is_binding()
            || self.declare != Declare::Nothing && self.refused.denied(&wanted.thing()).is_none()
    }

    fn how(&self, step: &Step) -> How {
        let usual = match step.wanted {
            Wanted::Exchange { .. } => self.exchanges,
            Wanted::Queue { .. } => self.queues,
            Wanted::Binding { .. } => return How::Declare,
        };
        if let Some(how) = step.how {
            return how;
        }
        let thing = step.wanted.thing();
        if self.refused.is_taken(&thing) || self.refused.denied(&thing).is_some() {
            return How::Look;
        }
        usual
    }

    /// Decides what a refusal means for its step.
    fn judge(&mut self, step: Step, how: How, error: Error) {
        let thing = step.wanted.thing();
        match (&step.wanted, how, reply_code(&error)) {
            (Wanted::Binding { queue, .. }, _, Some(code::ACCESS_REFUSED)) => {
                let all = error.to_string().contains(&format!("queue '{queue}'"));
                let queue = Arc::clone(queue);
                self.refused.deny(thing, &error);
                if all {
                    self.deny_bindings_of(&queue, &error);
                }
            }
            (_, How::Look, Some(code::NOT_FOUND)) if self.declare != Declare::Nothing => {
                self.missing(step, error);
            }
            // Not even this may be known. The publisher or consumer sees whether it is there.
            (_, How::Look, Some(code::ACCESS_REFUSED)) => {}
            (_, How::Declare, Some(code::ACCESS_REFUSED)) => {
                self.refused.deny(thing, &error);
                self.exchanges = How::Look;
                self.queues = How::Look;
                self.again(step, How::Look, Some(error));
            }
            (Wanted::Exchange { .. }, How::Declare, Some(code::PRECONDITION_FAILED))
                if is_inequivalent(&error.to_string()) =>
            {
                self.exchanges = How::Look;
                self.refused.take(thing);
            }
            (Wanted::Queue { .. }, How::Declare, Some(code::PRECONDITION_FAILED))
                if self.declare == Declare::Missing && is_inequivalent(&error.to_string()) =>
            {
                self.exists(step, error);
            }
            _ => self.obstacle(step, error),
        }
    }

    /// A queue exists with other arguments.
    fn exists(&mut self, mut step: Step, error: Error) {
        let Wanted::Queue { arguments, .. } = &step.wanted else {
            return;
        };
        match existing(arguments, &error.to_string()) {
            Existing::Stream => self.obstacle(step, error),
            Existing::Unknown(arguments) if step.probes < MOST_PROBES => {
                step.probes += 1;
                step.wanted = step.wanted.with(arguments);
                self.again(step, How::Declare, None);
            }
            Existing::Unknown(_) | Existing::Queue => self.refused.take(step.wanted.thing()),
        }
    }

    /// It does not exist.
    fn missing(&mut self, step: Step, error: Error) {
        let thing = step.wanted.thing();
        if let Some(refusal) = step.refusal.clone().or_else(|| self.refused.denied(&thing)) {
            return self.obstacle(step, refusal);
        }
        if step.how == Some(How::Declare) || step.wanted.is_binding() {
            return self.obstacle(step, error);
        }
        match step.wanted {
            Wanted::Exchange { .. } => self.exchanges = How::Declare,
            Wanted::Queue { .. } => self.queues = How::Declare,
            Wanted::Binding { .. } => {}
        }
        // It may have existed with other properties.
        self.refused.forget(&thing);
        self.again(step, How::Declare, None);
    }

    fn again(&mut self, step: Step, how: How, refusal: Option<Error>) {
        self.steps.push_front(Step {
            how: Some(how),
            refusal,
            ..step
        });
    }

    fn deny_bindings_of(&mut self, queue: &str, error: &Error) {
        let refused = self.refused;
        self.steps.retain(|step| {
            let thing = step.wanted.thing();
            let is_one = matches!(&thing, Thing::Binding(of, _) if **of == *queue);
            if is_one {
                refused.deny(thing, error);
            }
            !is_one
        });
    }

    /// Notes an obstacle, and leaves out what needs this thing.
    fn obstacle(&mut self, step: Step, error: Error) {
        match step.wanted.thing() {
            Thing::Exchange(name) => self.steps.retain(
                |other| !matches!(other.wanted.thing(), Thing::Binding(_, of) if of == name),
            ),
            Thing::Queue(name) => self.steps.retain(
                |other| !matches!(other.wanted.thing(), Thing::Binding(of, _) if of == name),
            ),
            Thing::Binding(..) => {}
        }
        let wanted = step.wanted;
        self.obstacles.push(Obstacle { wanted, error });
    }
}
