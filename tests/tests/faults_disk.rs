//! A full disk under the coordinator: the search pauses by itself with the reason, and goes on once there is room.

use lora_rates_common::convert::SearchState;
use lora_rates_tests::cluster::Cluster;
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::time::sleep;

/// A small file system of its own, unmounted when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None`, said aloud, where it may not be mounted.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: a full disk needs a file system of its own, and only root may mount one");
            return None;
        }
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::create(self.path().join("ballast")).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("the ballast goes");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the coordinator may still be ending.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_pauses_the_search_until_there_is_room() {
    let Some(disk) = Disk::mount("16m") else { return };
    let size = Size { networks: 16, steps: 500, ..Size::default() };
    let mut cluster = Cluster::with(&[], Some(&disk.path().join("data"))).await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let _workers = [cluster.worker(&["--delay-ms", "2"]), cluster.worker(&["--delay-ms", "2"])];
    watch.until_step(20).await;
    disk.fill();
    let status = watch.until_state(SearchState::Paused).await;
    let failure = status.failure.expect("it says why");
    assert!(failure.contains("full"), "{failure}");
    let step = status.step;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(client.get(&id).await.step, step, "nothing goes on without being stored");

    disk.free();
    // Another coordinator finds it as it was left.
    cluster.kill_coordinator().await;
    cluster.start_coordinator().await;
    let mut client = cluster.client().await;
    let status = client.get(&id).await;
    assert!(status.step == step || status.step == step + 1, "{} after {step}", status.step);
    if status.state == SearchState::Paused {
        client.resume(&id).await;
    }
    watch.until("until it goes on", |watch| watch.state() != Some(SearchState::Paused)).await;
    watch.finishes_as(&trajectory(&size.spec())).await;
}
