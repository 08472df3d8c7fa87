//! Reserves a loopback port, also for the time in which its server is dead.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use crate::{Error, Result};

/// The ports lie below the range that Linux uses for outgoing connections. A server that was killed must find
/// its port free when it starts again.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A reserved loopback port.
///
/// The reservation is a lock on a file. Other copies of the harness respect it, and the kernel releases it
/// when this process ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reserved: File,
}

impl Port {
    /// Reserves a port on which no process listens.
    pub fn free() -> Result<Self> {
        (0..500)
            .find_map(|_| Self::reserve(fastrand::u16(RANGE)))
            .ok_or_else(|| {
                Error::new(
                    format!(
                        "500 ports between {} and {} are all taken",
                        RANGE.start, RANGE.end
                    ),
                    format!(
                        "close some servers, or look at the locks in {}",
                        locks().display()
                    ),
                )
            })
    }

    /// Reserves this port if one is given and free, any other if not.
    pub fn prefer(number: Option<u16>) -> Result<Self> {
        number.and_then(Self::reserve).map_or_else(Self::free, Ok)
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn reserve(number: u16) -> Option<Self> {
        let file = locks().join(number.to_string());
        let reserved = File::create(&file).ok()?;
        let _ = fs::set_permissions(&file, fs::Permissions::from_mode(0o666));
        reserved.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _reserved: reserved,
        })
    }
}

/// The folder of locks, shared by all users of the machine.
fn locks() -> PathBuf {
    let folder = std::env::temp_dir().join("final-test-ports");
    if fs::create_dir(&folder).is_ok() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777));
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice() {
        let mine = Port::free().unwrap();
        assert!(Port::reserve(mine.number()).is_none());
        assert_ne!(
            Port::prefer(Some(mine.number())).unwrap().number(),
            mine.number()
        );
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_given() {
        let mine = Port::free().unwrap();
        let number = mine.number();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        drop(mine);
        assert!(Port::reserve(number).is_none());
        drop(listener);
    }
}
