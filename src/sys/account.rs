//! Users and groups: look-ups, and changing to a user for good.

use std::ffi::{CStr, CString};
use std::io;
use std::ptr::null_mut;

use super::check;
use super::shortage::{Shortage, found};

/// A user of the system's account database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: CString,
    /// The numeric user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home directory, as bytes of a path.
    pub home: Vec<u8>,
}

/// The longest login name that Linux has, with the NUL that ends it (`LOGIN_NAME_MAX`).
const LOGIN_NAME_MAX: usize = 256;

/// Looks up a user by name (`getpwnam_r`); `None` when there is no such user or the database cannot
/// be read. A name that is too long for a user is not looked up: a client may have sent it, and the
/// database may be a remote server.
///
/// # Errors
/// A shortage.
pub fn user(name: &CStr) -> Result<Option<User>, Shortage> {
    if name.count_bytes() >= LOGIN_NAME_MAX {
        return Ok(None);
    }
    look_up_user(|entry, buffer, found| {
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr().cast(), buffer.len(), found)
        }
    })
}

/// Looks up a user by number (`getpwuid_r`).
///
/// # Errors
/// A shortage.
pub fn user_of(uid: u32) -> Result<Option<User>, Shortage> {
    look_up_user(|entry, buffer, found| {
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), found) }
    })
}

/// `call` fills an entry, whose strings are in the buffer, and says where it is.
fn look_up_user(
    call: impl Fn(&mut libc::passwd, &mut [u8], &mut *mut libc::passwd) -> libc::c_int,
) -> Result<Option<User>, Shortage> {
    with_buffer(|buffer| {
        let mut entry = libc::passwd {
            pw_name: null_mut(),
            pw_passwd: null_mut(),
            pw_uid: 0,
            pw_gid: 0,
            pw_gecos: null_mut(),
            pw_dir: null_mut(),
            pw_shell: null_mut(),
        };
        let mut found = null_mut();
        let status = call(&mut entry, buffer, &mut found);
        if status == libc::ERANGE {
            return Lookup::Larger;
        }
        if found.is_null() {
            return Lookup::Missing(status);
        }
        let [login, home] = [entry.pw_name, entry.pw_dir].map(|field| {
            // SAFETY: not null, so it is a NUL-terminated string inside `buffer`, which is alive,
            // or in the name service. A broken name service may return a null pointer.
            (!field.is_null()).then(|| unsafe { CStr::from_ptr(field) })
        });
        Lookup::Entry(login.zip(home).map(|(login, home)| User {
            name: login.to_owned(),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            home: home.to_bytes().to_vec(),
        }))
    })
}

/// Looks up the number of a group by name (`getgrnam_r`); `None` when there is no such group or
/// the database cannot be read.
///
/// # Errors
/// A shortage.
pub fn group(name: &CStr) -> Result<Option<u32>, Shortage> {
    with_buffer(|buffer| {
        let mut entry = libc::group {
            gr_name: null_mut(),
            gr_passwd: null_mut(),
            gr_gid: 0,
            gr_mem: null_mut(),
        };
        let mut found = null_mut();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let status = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        if status == libc::ERANGE {
            return Lookup::Larger;
        }
        if found.is_null() {
            return Lookup::Missing(status);
        }
        Lookup::Entry(Some(entry.gr_gid))
    })
}

enum Lookup<T> {
    Larger,
    /// With the errno; 0 when there is no such entry.
    Missing(i32),
    /// `None` for an entry that is broken.
    Entry(Option<T>),
}

/// Calls `look_up` with a buffer that grows while the entry does not fit. A group may have ten
/// thousand members, but an entry over a mebibyte is treated as missing.
fn with_buffer<T>(mut look_up: impl FnMut(&mut [u8]) -> Lookup<T>) -> Result<Option<T>, Shortage> {
    let mut size = 1024;
    while size <= 1 << 20 {
        match look_up(&mut vec![0; size]) {
            Lookup::Larger => size *= 4,
            Lookup::Missing(errno) => {
                return Ok(found(Err(io::Error::from_raw_os_error(errno)))?.ok());
            }
            Lookup::Entry(entry) => return Ok(entry),
        }
    }
    Ok(None)
}

/// Gives up the process's privileges for good: supplementary groups of `user`, then `gid`, then
/// `uid`. Must be called while the process has one thread.
///
/// # Errors
/// Those of `initgroups(3)`, `setgid(2)`, `setuid(2)`; the process may then be half changed and
/// must end.
pub fn become_user(user: &CStr, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::initgroups(user.as_ptr(), gid) })?;
    // SAFETY: takes and changes numbers only.
    check(unsafe { libc::setgid(gid) })?;
    // SAFETY: takes and changes numbers only.
    check(unsafe { libc::setuid(uid) }).map(drop)
}
