//! What happens to the server beside its clients: its services are stopped and killed, its network fails, a file system
//! stops answering. Each ends by itself.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::clients::pause;
use super::fuse;
use super::site::Site;
use crate::support::process::descendants;
use crate::support::random::Random;

/// From one outage to the next.
const WELL: Duration = Duration::from_secs(14);

/// Until it is over; for a thread in the daemon's network. How often each was done.
pub fn work(site: &Site, seed: u64) -> [(&'static str, u64); 4] {
    let mut random = Random::of(seed, u64::MAX);
    let mut done = [("stopped", 0), ("killed", 0), ("file system", 0), ("outages", 0)];
    let mut last_outage = Instant::now();
    while !site.is_over() {
        pause(&mut random, 250);
        let what = match random.below(100) {
            _ if last_outage.elapsed() > WELL => 3,
            0..60 => 0,
            60..75 => 1,
            _ => 2,
        };
        match what {
            0 => stop_a_service(site, &mut random),
            1 => drop(some_service(site, &mut random).map(|pid| kill_process(pid, Signal::KILL))),
            2 => stop_the_file_system(site, &mut random),
            _ => {
                site.switch_network(false);
                pause(&mut random, 2500);
                site.switch_network(true);
                last_outage = Instant::now();
            }
        }
        done[what].1 += 1;
    }
    done
}

/// One of the processes below gitd, be it a service, a hook or what these have started.
fn some_service(site: &Site, random: &mut Random) -> Option<Pid> {
    let services = descendants(site.pid());
    let pid = services.get(random.below(services.len().max(1)))?;
    Pid::from_raw(pid.cast_signed())
}

fn stop_a_service(site: &Site, random: &mut Random) {
    let Some(pid) = some_service(site, random) else { return };
    // It may have ended meanwhile, before the one signal or the other.
    let _ = kill_process(pid, Signal::STOP);
    pause(random, 500);
    let _ = kill_process(pid, Signal::CONT);
}

fn stop_the_file_system(site: &Site, random: &mut Random) {
    let at = random.pick(&[
        fuse::LOOKUP,
        fuse::GETATTR,
        fuse::OPEN,
        fuse::READ,
        fuse::ACCESS,
        fuse::FLUSH,
        fuse::RELEASE,
    ]);
    let gitd = site.pid();
    let others = random.chance(50);
    site.fuse.stop_when(move |operation, thread| {
        let own = || std::path::Path::new(&format!("/proc/{gitd}/task/{thread}")).exists();
        operation == at && (!others || !own())
    });
    // A service that hangs has its place, as with any server; all of them together hang for less than a good client waits.
    pause(random, if others { 1000 } else { 2500 });
    site.fuse.go_on();
}
