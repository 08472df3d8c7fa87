//! What is broken, and in which order.
//!
//! Input: a seed, and how long the run lasts. Output: each fault once and alone; then any of them, until the time is
//! over.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the reader that reads.
    KillReader,
    KillBothReaders,
    /// The reader that reads dies right after it has made messages of what it has read.
    DieBeforeWriting,
    /// Between its messages and its COMMIT, or between the confirms and the saved position.
    DieBeforeSaving,
    /// Before it tells the source what is saved.
    DieBeforeTelling,
    /// A clean end and a new start, as at an update.
    StopReader,
    /// SIGSTOP and SIGCONT, shorter than the lease.
    FreezeReader,
    /// Until the other reader has taken over.
    FreezeReaderForLong,
    KillSource,
    RestartSource,
    FreezeSource,
    /// The connections of the readers are reset, again and again.
    CutSource,
    StallSource,
    KillTarget,
    FreezeTarget,
    CutTarget,
    /// What was sent is carried out, and the reader does not hear of it.
    LoseAnswersOfTarget,
    /// COMMITs of writers are carried out, and they do not hear of it.
    LoseAnswersOfWriters,
    /// The source begins a new file of its log.
    Rotate,
    /// The columns of a table change while its rows do.
    Alter,
    KillReaderAndSource,
    KillReaderAndTarget,
    /// What was not read yet is taken away: the slot is dropped, or the files are purged.
    Gap,
}

/// Each once.
const ALL: [Fault; 25] = [
    Fault::Alter,
    Fault::KillReader,
    Fault::DieBeforeSaving,
    Fault::LoseAnswersOfWriters,
    Fault::KillTarget,
    Fault::Rotate,
    Fault::DieBeforeTelling,
    Fault::CutSource,
    Fault::FreezeReader,
    Fault::KillSource,
    Fault::Alter,
    Fault::LoseAnswersOfTarget,
    Fault::FreezeReaderForLong,
    Fault::StopReader,
    Fault::Gap,
    Fault::KillReaderAndTarget,
    Fault::Alter,
    Fault::KillBothReaders,
    Fault::FreezeTarget,
    Fault::StallSource,
    Fault::DieBeforeWriting,
    Fault::CutTarget,
    Fault::RestartSource,
    Fault::FreezeSource,
    Fault::KillReaderAndSource,
];

/// What the short run leaves out: it takes long, and is much like another one.
const NOT_IN_SHORT: [Fault; 5] = [
    Fault::KillReaderAndTarget,
    Fault::KillReaderAndSource,
    Fault::FreezeSource,
    Fault::CutTarget,
    Fault::StopReader,
];

/// The first part, in which each comes once.
pub fn first(is_short: bool) -> Vec<Fault> {
    let is_part = |fault: &Fault| !(is_short && NOT_IN_SHORT.contains(fault));
    ALL.into_iter().filter(is_part).collect()
}

/// Any fault. What takes the other parts long is rare.
pub fn any(random: &mut fastrand::Rng) -> Fault {
    use Fault::*;
    match random.u8(..46) {
        0..=4 => KillReader,
        5..=6 => KillBothReaders,
        7..=8 => StopReader,
        9..=10 => FreezeReader,
        11 => FreezeReaderForLong,
        12..=14 => KillSource,
        15 => RestartSource,
        16..=17 => FreezeSource,
        18..=20 => CutSource,
        21 => StallSource,
        22..=24 => KillTarget,
        25..=26 => FreezeTarget,
        27..=28 => CutTarget,
        29..=30 => LoseAnswersOfTarget,
        31..=32 => LoseAnswersOfWriters,
        33..=34 => Rotate,
        35..=36 => Alter,
        37 => KillReaderAndSource,
        38 => KillReaderAndTarget,
        39..=40 => DieBeforeWriting,
        41..=42 => DieBeforeSaving,
        43..=44 => DieBeforeTelling,
        _ => Gap,
    }
}
