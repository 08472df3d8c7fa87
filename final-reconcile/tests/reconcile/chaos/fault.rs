//! What is broken, and in which order.
//!
//! Input: a seed, and how long the run lasts. Output: each fault once and alone; then any of them, until the time is
//! over.

use super::endpoint::Mood;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of one reconciler.
    KillReconciler,
    KillBothReconcilers,
    /// Both die while a call is under way that the endpoint has carried out.
    DieAfterRepair,
    /// The same, and the endpoint has not carried it out.
    DieBeforeRepair,
    /// The same, and the endpoint has answered, and carries it out later. Its call has to come again.
    DieBeforeRecord,
    /// A clean end and a new start, as at an update.
    StopReconciler,
    /// SIGSTOP and SIGCONT.
    FreezeReconciler,
    /// Until another one may take its repairs.
    FreezeReconcilerForLong,
    KillSource,
    FreezeSource,
    /// The connections of the reconcilers are reset, again and again.
    CutSource,
    KillTarget,
    FreezeTarget,
    CutTarget,
    KillState,
    FreezeState,
    CutState,
    /// What was sent is carried out, and the reconciler does not hear of it.
    LoseAnswersOfState,
    KillReconcilerAndState,
    /// Its port is closed.
    EndpointIsDown,
    LoseAnswersOfEndpoint,
    EndpointFails,
    EndpointIsBusy,
    EndpointSendsAway,
    EndpointHangs,
    EndpointIsLate,
    EndpointBreaksOff,
}

use Fault::*;

/// Each once.
const ALL: [Fault; 27] = [
    DieBeforeRepair,
    LoseAnswersOfState,
    KillTarget,
    EndpointFails,
    KillReconciler,
    KillState,
    DieBeforeRecord,
    EndpointIsLate,
    FreezeReconciler,
    KillSource,
    LoseAnswersOfEndpoint,
    StopReconciler,
    DieAfterRepair,
    CutTarget,
    EndpointHangs,
    FreezeReconcilerForLong,
    KillReconcilerAndState,
    EndpointIsBusy,
    FreezeState,
    CutSource,
    KillBothReconcilers,
    EndpointIsDown,
    FreezeSource,
    EndpointSendsAway,
    CutState,
    EndpointBreaksOff,
    FreezeTarget,
];

/// What the short run leaves out: it is much like another one.
const NOT_IN_SHORT: [Fault; 14] = [
    CutState,
    EndpointIsLate,
    KillReconcilerAndState,
    FreezeReconcilerForLong,
    FreezeState,
    CutSource,
    CutTarget,
    KillBothReconcilers,
    EndpointIsBusy,
    EndpointIsDown,
    EndpointSendsAway,
    EndpointBreaksOff,
    FreezeSource,
    FreezeTarget,
];

/// The first part, in which each comes once.
pub fn first(is_short: bool) -> Vec<Fault> {
    let is_part = |fault: &Fault| !(is_short && NOT_IN_SHORT.contains(fault));
    ALL.into_iter().filter(is_part).collect()
}

/// Any fault.
pub fn any(random: &mut fastrand::Rng) -> Fault {
    ALL[random.usize(..ALL.len())]
}

impl Fault {
    /// How the endpoint is while it lasts.
    pub fn mood(self) -> Option<Mood> {
        Some(match self {
            EndpointFails => Mood::Fails,
            EndpointIsBusy => Mood::IsBusy,
            EndpointSendsAway => Mood::SendsAway,
            EndpointHangs => Mood::Hangs,
            EndpointIsLate => Mood::IsLate,
            EndpointBreaksOff => Mood::BreaksOff,
            _ => return None,
        })
    }

    /// Whether a process may miss an answer meanwhile, or the chance to write it down.
    pub fn disturbs(self) -> bool {
        let goes_on_well = [
            StopReconciler,
            KillSource,
            FreezeSource,
            CutSource,
            KillTarget,
            FreezeTarget,
            CutTarget,
        ];
        !goes_on_well.contains(&self)
    }
}
