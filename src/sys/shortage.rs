//! Tells a shortage from an answer.
//!
//! A file that cannot be opened for lack of descriptors looks as if it did not exist, and a search
//! may go on and find another repository. So a look-up returns [`Found`]: the caller has to pass a
//! shortage on before it learns what is there.

use std::io;

/// The system has no descriptor, process or memory left for a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage(i32);

/// What a look-up has found, or why there is nothing; outside of that, that the look-up was
/// impossible.
pub type Found<T, E = io::Error> = Result<Result<T, E>, Shortage>;

impl Shortage {
    /// That of memory.
    pub(super) const MEMORY: Self = Shortage(libc::ENOMEM);

    /// The shortage that the error tells of, so that the same call may succeed later.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        const LACKS: [libc::c_int; 5] =
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS];
        error.raw_os_error().filter(|errno| LACKS.contains(errno)).map(Shortage)
    }
}

impl From<Shortage> for io::Error {
    fn from(Shortage(errno): Shortage) -> Self {
        io::Error::from_raw_os_error(errno)
    }
}

/// Sets a shortage apart from other errors.
///
/// # Errors
/// The shortage.
pub fn found<T>(result: Result<T, impl Into<io::Error>>) -> Found<T> {
    let result = result.map_err(Into::into);
    match result.as_ref().err().and_then(Shortage::of) {
        Some(shortage) => Err(shortage),
        None => Ok(result),
    }
}

/// Whether the error says that a resource is exhausted.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    Shortage::of(error).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind::NotFound;

    #[test]
    fn only_a_shortage_is_no_answer() {
        let of = |errno| found::<()>(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(of(libc::ENOENT).unwrap().unwrap_err().kind(), NotFound);
        assert_eq!(found(Ok::<_, io::Error>(1)).unwrap().unwrap(), 1);
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS] {
            let shortage = of(errno).unwrap_err();
            assert_eq!(io::Error::from(shortage).raw_os_error(), Some(errno));
        }
    }
}
