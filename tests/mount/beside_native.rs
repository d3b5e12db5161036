//! Random operations on the mount and on a local file system beside it: what each gives is the
//! same, and so are the trees.
//!
//! `CIDFS_BESIDE_OPS` sets how many steps are taken, `CIDFS_BESIDE_SEED` where it begins. A
//! failure prints its seed and the fewest steps that fail.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "few operations change bytes"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::beside_calls::{Done, Stat};
use crate::beside_choose::Chooser;
use crate::beside_ops::{At, Event, Op, Step, Target, Taste, User};
use crate::beside_side::{Answer, Said, Side};
use crate::beside_tree::Tree;
use crate::writable::{Writable, is_root};

/// Steps in one tree.
const STEPS_A_TREE: u64 = 1000;

/// How long it is tried to do with fewer steps.
const SHRINK: Duration = Duration::from_secs(180);

const OPTIONS: &str = "allow_other,suid,dev";

/// Where what the mount says may be something else, and why. Neither may then have changed
/// anything that the other has not.
///
/// What is never done, since the trees would differ after it: `chown` that names neither owner nor
/// group, of which the kernel does not tell a FUSE daemon whether it may take setgid away; calls that
/// one of the two does not have (`O_TMPFILE`, ranges that are collapsed or inserted).
/// What is never compared: sizes of directories, blocks, access times that the clock gave, times of
/// what went through a fifo, and where holes are, as long as they are zeros. The time of the last
/// change may go on where an ACL is set that ext4 finds to be there already.
type Admitted = (&'static str, fn(&Op, &Answer, &Answer) -> bool);
const ADMITTED: &[Admitted] = &[
    (
        "an attribute that is to be new and to be there as well is refused in other words",
        |op, one, other| {
            let both = libc::XATTR_CREATE | libc::XATTR_REPLACE;
            let absurd = matches!(op, Op::SetXattr { flags, .. } if *flags == both);
            absurd && one.is_err() && *other == Err(libc::EINVAL)
        },
    ),
    (
        "nothing is copied to a place that is beyond the largest file of ext4 and not beyond ours",
        |op, one, other| {
            let far = matches!(op, Op::Copy { off, .. } if *off > 1 << 43);
            far && *one == Err(libc::EFBIG) && *other == Ok(Said::Number(0))
        },
    ),
];

/// The file system beside.
struct Native {
    dir: tempfile::TempDir,
    name: &'static str,
    /// Whether its clock tells each change from the one before: since Linux 6.13 on most.
    fine: bool,
}

/// Whether ten changes in a row that are looked at have ten times.
fn has_fine_clock(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let time = |mode: u32| {
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        let meta = fs::metadata(dir).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let times: Vec<_> = (0..10).map(|_| time(0o755)).collect();
    times.windows(2).all(|two| two[0] != two[1])
}

impl Native {
    /// In the directory for temporary files, or where that has rules of its own in memory.
    fn new() -> Option<Self> {
        let places = [std::env::temp_dir(), "/dev/shm".into()];
        places.iter().find_map(|place| {
            let kind = rustix::fs::statfs(place).ok()?.f_type;
            let name = match u64::try_from(kind).ok()? {
                0xEF53 => "ext4",
                0x5846_5342 => "xfs",
                0x9123_683E => "btrfs",
                0x0102_1994 => "tmpfs",
                _ => return None,
            };
            let dir = tempfile::tempdir_in(place).ok()?;
            // A directory of tmpfs has the time of what went from it, which nobody may have looked at.
            let fine = name != "tmpfs" && has_fine_clock(dir.path());
            Some(Self { dir, name, fine })
        })
    }
}

/// What nodes were, beside and on the mount.
type Seen = Vec<(Target, [Done<Stat>; 2])>;

/// The mount and the tree beside it.
struct Pair {
    /// Whether the clock of the file system beside tells each change from the one before.
    fine: bool,
    world: Writable,
    _repo: tempfile::TempDir,
    native: Side,
    mount: Side,
    counts: BTreeMap<String, [u64; 2]>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.native.leave();
        self.mount.leave();
    }
}

impl Pair {
    fn new(plan: &Plan, native: &Path) -> Self {
        let repo = tempfile::tempdir().unwrap();
        fs::write(repo.path().join("config.toml"), &plan.config).unwrap();
        let world = Writable::at(repo.path(), OPTIONS);
        if native.exists() {
            fs::remove_dir_all(native).unwrap();
        }
        fs::create_dir(native).unwrap();
        for root in [native, &world.mfs] {
            fs::set_permissions(root, fs::Permissions::from_mode(0o1777)).unwrap();
        }
        Self {
            fine: plan.fine,
            native: Side::new(native),
            mount: Side::new(&world.mfs),
            world,
            _repo: repo,
            counts: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Event(event) => self.event(*event),
            Step::Do { who, umask, op } => {
                let before = self.look(op)?;
                self.op(*who, *umask, op)?;
                self.touched(op, &before)
            }
        }
    }

    fn op(&mut self, who: User, umask: u32, op: &Op) -> Result<(), String> {
        let ask = |side: &mut Side| {
            let op = op.clone();
            side.ask(move |hands| hands.run(who, umask, &op))
        };
        let (one, other) = (ask(&mut self.native)?, ask(&mut self.mount)?);
        let kind = format!("{op:?}");
        let kind = kind.split([' ', '{']).next().unwrap().to_owned();
        self.counts.entry(kind).or_default()[usize::from(one.is_ok())] += 1;
        if same(&one, &other) {
            return Ok(());
        }
        let reason = ADMITTED.iter().find(|(_, holds)| holds(op, &one, &other));
        if let Some((reason, _)) = reason {
            self.counts
                .entry(format!("admitted: {reason}"))
                .or_default()[1] += 1;
            return Ok(());
        }
        Err(format!("{one:?}, on the mount {other:?}"))
    }

    fn look(&mut self, op: &Op) -> Result<Seen, String> {
        let mut all = Vec::new();
        for target in targets(op) {
            let look = |side: &mut Side| {
                let target = target.clone();
                side.ask(move |hands| hands.stat(&target))
            };
            let both = [look(&mut self.native)?, look(&mut self.mount)?];
            all.push((target, both));
        }
        Ok(all)
    }

    /// Looks at what the operation was about.
    fn touched(&mut self, op: &Op, before: &Seen) -> Result<(), String> {
        let after = self.look(op)?;
        for (target, [one, other]) in &after {
            let differs = match (one, other) {
                (Ok(one), Ok(other)) => one.against(other),
                (one, other) => (one != other).then(|| format!("{one:?}, on the mount {other:?}")),
            };
            if let Some(why) = differs {
                return Err(format!("{target:?} then: {why}"));
            }
        }
        for ((target, before), (_, after)) in before.iter().zip(&after) {
            let moved = |side: usize| moved(&before[side], &after[side]);
            let (Some(one), Some(other)) = (moved(0), moved(1)) else {
                continue;
            };
            let acl = matches!(
                op,
                Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } if name.starts_with("system.")
            );
            if self.fine && one != other && !(acl && other[1]) {
                let times = "times of changes, of bytes and of anything, that went on";
                return Err(format!(
                    "{target:?}: {times}: {one:?}, on the mount {other:?}"
                ));
            }
        }
        let Some((slot, off, len)) = range(op) else {
            return Ok(());
        };
        let look = |side: &mut Side| side.ask(move |hands| hands.around(slot, off, len));
        let (one, other) = (look(&mut self.native)?, look(&mut self.mount)?);
        if one == other {
            return Ok(());
        }
        Err(format!("bytes around it: {one:?}, on the mount {other:?}"))
    }

    fn event(&mut self, event: Event) -> Result<(), String> {
        *self.counts.entry(format!("{event:?}")).or_default() = {
            let [none, so_far] = self
                .counts
                .get(&format!("{event:?}"))
                .copied()
                .unwrap_or_default();
            [none, so_far + 1]
        };
        let top = self.world.top.to_str().unwrap().to_owned();
        match event {
            Event::Compare => return self.compare(true),
            Event::Checkpoint => drop(self.world.cidfs(&["journal", "checkpoint"])),
            Event::Remount => {
                self.leave();
                self.world.cidfs(&["umount", &top]);
                self.world.cidfs(&["mount", "-o", OPTIONS, "/", &top]);
            }
            Event::Kill => {
                self.leave();
                self.kill();
                self.world.cidfs(&["mount", "-o", OPTIONS, "/", &top]);
            }
        }
        self.compare(false)
    }

    fn leave(&mut self) {
        self.native.leave();
        self.mount.leave();
    }

    fn kill(&self) {
        let pid = fs::read_to_string(self.world.repo().join("lock")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while rustix::process::test_kill_process(pid).is_ok() {
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn compare(&mut self, anew: bool) -> Result<(), String> {
        let walk = |side: &mut Side| {
            let tree = side.ask(move |_| Tree::walk(anew))?;
            tree.map_err(|errno| format!("error {errno} while the tree is walked"))
        };
        let (one, other) = (walk(&mut self.native)?, walk(&mut self.mount)?);
        self.counts.entry("nodes compared".into()).or_default()[1] += one.nodes() as u64;
        one.against(&other).map_or(Ok(()), Err)
    }
}

/// Which times of a node have gone on: of its bytes, of anything.
fn moved(before: &Done<Stat>, after: &Done<Stat>) -> Option<[bool; 2]> {
    let (Ok(before), Ok(after)) = (before, after) else {
        return None;
    };
    let same = before.ino == after.ino && !after.is_fifo();
    same.then(|| [before.mtime != after.mtime, before.ctime != after.ctime])
}

fn same(one: &Answer, other: &Answer) -> bool {
    match (one, other) {
        (Ok(Said::Stat(one)), Ok(Said::Stat(other))) => one.against(other).is_none(),
        _ => one == other,
    }
}

/// What an operation is about: the nodes it names, and their directories.
fn targets(op: &Op) -> Vec<Target> {
    let path = |at: &At| Target::Path {
        at: at.clone(),
        follow: false,
    };
    let mut all = Vec::new();
    let mut named = |at: &At| {
        let dir = at.path.iter().rposition(|byte| *byte == b'/');
        let dir = dir.map_or(&b"."[..], |end| &at.path[..=end]);
        all.extend([
            path(at),
            path(&At {
                base: at.base,
                path: dir.to_vec(),
            }),
        ]);
    };
    match op {
        Op::Make { at, .. }
        | Op::Symlink { at, .. }
        | Op::Unlink { at, .. }
        | Op::Save { at, .. } => named(at),
        Op::Open { at, slot, .. } => {
            named(at);
            all.push(Target::Slot(*slot));
        }
        Op::Link { from, to, .. } | Op::Rename { from, to, .. } => {
            named(from);
            named(to);
        }
        Op::Write { slot, .. }
        | Op::Put { slot, .. }
        | Op::Allocate { slot, .. }
        | Op::Map { slot, .. }
        | Op::Sync { slot, .. }
        | Op::Read { slot, .. } => all.push(Target::Slot(*slot)),
        Op::Copy { from, to, .. } => all.extend([Target::Slot(*from), Target::Slot(*to)]),
        Op::Truncate { target, .. }
        | Op::Chmod { target, .. }
        | Op::Chown { target, .. }
        | Op::Times { target, .. }
        | Op::SetXattr { target, .. }
        | Op::RemoveXattr { target, .. } => all.push(target.clone()),
        Op::Close { .. }
        | Op::Load { .. }
        | Op::Seek { .. }
        | Op::GetXattr { .. }
        | Op::ListXattr { .. }
        | Op::Stat { .. }
        | Op::Readlink { .. }
        | Op::List { .. }
        | Op::Access { .. } => {}
    }
    all
}

/// Which bytes of which slot an operation may have changed.
fn range(op: &Op) -> Option<(u8, i64, usize)> {
    match op {
        Op::Write { slot, off, bytes }
        | Op::Map {
            slot, off, bytes, ..
        } => Some((*slot, *off, bytes.len)),
        Op::Put { slot, bytes } => Some((*slot, 0, bytes.len)),
        Op::Allocate { slot, off, len, .. } => Some((*slot, *off, (*len).max(0) as usize)),
        Op::Copy { to, off, len, .. } => Some((*to, *off, *len)),
        Op::Truncate {
            target: Target::Slot(slot),
            len,
        } => Some((*slot, *len, 0)),
        _ => None,
    }
}

/// What a seed stands for.
struct Plan {
    seed: u64,
    taste: Taste,
    config: String,
    fine: bool,
}

impl Plan {
    fn new(seed: u64, native: &Native) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let taste = Taste {
            names: [2, 3, 5][rng.random_range(0..3)],
            large: rng.random_ratio(1, 3),
            compare_every: [4, 15, 50][rng.random_range(0..3)],
            event_every: [60, 150, 400][rng.random_range(0..3)],
            others: [0, 2, 5][rng.random_range(0..3)],
            zero_range: native.name != "tmpfs",
        };
        let profile = ["unixfs-v0-2015", "unixfs-v1-2025"][rng.random_range(0..2)];
        let unsealed = ["\"256 KiB\"", "\"1 MiB\"", "\"256 MiB\""][rng.random_range(0..3)];
        let config = format!("[tree]\nprofile = \"{profile}\"\nunsealed_bytes_max = {unsealed}\n");
        Self {
            seed,
            taste,
            config,
            fine: native.fine,
        }
    }

    fn steps(&self, count: u64) -> Vec<Step> {
        let mut rng = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        let mut chooser = Chooser {
            rng: &mut rng,
            taste: self.taste,
        };
        let mut steps: Vec<Step> = (0..count / 12).map(|_| chooser.build()).collect();
        steps.extend((0..count).map(|_| chooser.step()));
        steps.extend([Step::Event(Event::Compare), Step::Event(Event::Remount)]);
        steps
    }

    /// Gives what was counted, or the place of the step that failed, and why.
    fn run(
        &self,
        native: &Native,
        steps: &[Step],
    ) -> Result<BTreeMap<String, [u64; 2]>, (usize, String)> {
        let mut pair = Pair::new(self, &native.dir.path().join("tree"));
        for (place, step) in steps.iter().enumerate() {
            pair.step(step).map_err(|why| (place, why))?;
        }
        Ok(std::mem::take(&mut pair.counts))
    }

    /// The fewest steps that still fail.
    fn shrink(&self, native: &Native, mut steps: Vec<Step>) -> Vec<Step> {
        let until = Instant::now() + SHRINK;
        let mut size = steps.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < steps.len() && Instant::now() < until {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + size).min(steps.len()));
                // Comparing after each step finds it where it comes about.
                match self.run(native, &fewer) {
                    Ok(_) => at += size,
                    Err((place, _)) => {
                        fewer.truncate(place + 1);
                        steps = fewer;
                    }
                }
            }
            size /= 2;
        }
        steps
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn random_calls_do_what_they_do_on_a_local_file_system() {
    if !is_root() {
        return;
    }
    let Some(native) = Native::new() else {
        eprintln!("SKIPPED: no local file system for temporary files to compare with");
        return;
    };
    let (steps, first) = (
        number("CIDFS_BESIDE_OPS", 2000),
        number("CIDFS_BESIDE_SEED", 1),
    );
    let begun = Instant::now();
    let mut counts = BTreeMap::<String, [u64; 2]>::new();
    for seed in first..first + steps.div_ceil(STEPS_A_TREE) {
        let plan = Plan::new(seed, &native);
        let mut steps = plan.steps(STEPS_A_TREE);
        match plan.run(&native, &steps) {
            Ok(more) => {
                for (what, [failed, done]) in more {
                    let sum = counts.entry(what).or_default();
                    *sum = [sum[0] + failed, sum[1] + done];
                }
            }
            Err((place, why)) => {
                steps.truncate(place + 1);
                let few = plan.shrink(&native, steps);
                let again = plan.run(&native, &few);
                println!("{:?}\n{}", plan.taste, plan.config);
                for step in &few {
                    println!("    {step:?}");
                }
                let again = again.err().map_or("nothing".into(), |(_, why)| why);
                panic!(
                    "CIDFS_BESIDE_SEED={seed} beside {}, step {place}: {why}\nwith {} steps: {again}",
                    native.name,
                    few.len()
                );
            }
        }
    }
    let took = begun.elapsed();
    println!(
        "{steps} steps from seed {first} beside {} in {took:?}",
        native.name
    );
    for (what, [failed, done]) in &counts {
        println!("    {what}: {done} and {failed} refused");
    }
}
