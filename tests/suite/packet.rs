//! The request packet: contract 23 to 30.

use crate::support::{Scratch, compliance, pkt};

compliance! {
    fn served(d) {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let daemon = d.serve(&scratch).start();
        let session = daemon.ask("upload-pack", "/repo.git");
        session.assert_served("repo.git");
        session.assert_logged(&[
            "Extended attribute \"host\": localhost",
            "Request upload-pack for '/repo.git'",
        ]);
        daemon.talk(pkt("git-upload-pack /repo\n")).assert_served("repo.git");
    }
}
