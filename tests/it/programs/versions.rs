//! git: its objects, packs, index and locks, in all that people do with a repository.

use super::*;

/// Who commits, and no housekeeping that nobody asked for.
const SETUP: &str = "git config --global user.email a@example.com; git config --global user.name a
    git config --global gc.auto 0; git config --global init.defaultBranch main
    git config --global advice.detachedHead false
    ";

fn git(mount: &Mounted, script: &str) -> String {
    sh(mount, &[SETUP, script].concat())
}

#[test]
#[ignore = "needs git, which .ci/run installs; it runs this"]
fn git_keeps_five_hundred_commits_packs_them_clones_them_and_finds_both_whole() {
    let (server, mount) = world(None);
    let made = git(
        &mount,
        "git init -q repo; cd repo; mkdir sub
         for n in $(seq 500); do
             echo $n >> file$((n % 7)); echo deep $n > sub/deep; git add -A; git commit -qm \"commit $n\"
         done
         git fsck --full --strict; git gc -q; git fsck --full --strict
         git status --porcelain
         git rev-list --count HEAD; git count-objects -v | grep -e ^count: -e ^packs: -e ^garbage:
         cd ..; git clone -q repo clone; git clone -q --no-local --depth 5 file://$PWD/repo shallow
         git -C clone fsck --full --strict; git -C clone status --porcelain
         git -C clone rev-list --count HEAD; git -C shallow rev-list --count HEAD
         diff -r --exclude .git repo clone",
    );
    let right = "500\ncount: 0\npacks: 1\ngarbage: 0\n500\n5\n";
    assert_eq!(made, right);
    mount.sync();
    let second = Mounted::new(&server, ROOT, &["--read-only"]);
    let looked = sh_in(
        &mount,
        &second.path(""),
        "for at in repo clone; do
             git -C $at fsck --full --strict; git -C $at rev-list --count HEAD; git -C $at diff --stat HEAD
         done",
    );
    assert_eq!(looked, "500\n500\n");
    assert_eq!(server.open_uploads(), 0);
}

#[test]
#[ignore = "needs git, which .ci/run installs; it runs this"]
fn git_rebases_merges_stashes_and_checks_out_a_large_tree() {
    let (server, mount) = world(None);
    let made = git(
        &mount,
        "git init -q repo; cd repo; echo base > base; git add .; git commit -qm base
         git checkout -qb topic
         for n in $(seq 30); do echo $n > topic$n; git add .; git commit -qm \"topic $n\"; done
         git checkout -q main
         for n in $(seq 10); do echo $n > main$n; git add .; git commit -qm \"main $n\"; done
         git checkout -q topic; git rebase -q main; git rev-list --count HEAD
         git checkout -q main; git merge -q --no-ff -m merged topic; ls | wc -l
         echo changed > base; git stash -q; cat base; git stash pop -q; cat base; git checkout -q base
         git checkout -qb large; mkdir tree
         for d in $(seq 20); do mkdir tree/$d; (cd tree/$d; seq 1 2000 | split -l 20 -a 2); done
         git add .; git commit -qm large; find tree -type f | wc -l
         git checkout -q main; test ! -e tree; git checkout -q large; find tree -type f | wc -l
         git worktree add -q ../beside main; git -C ../beside status --porcelain; git worktree remove ../beside
         git status --porcelain; git fsck --full --strict --no-dangling
         cat $(find tree -type f) | sort -n | uniq -c | sort -k1,1rn -k2,2rn | head -1",
    );
    // Each of the twenty folders has each number once.
    let right = "41\n41\nbase\nchanged\n2000\n2000\n     20 2000\n";
    assert_eq!(made, right);
    let shown = arrives(&server, &mount);
    let parts = shown.keys().filter(|path| path.starts_with("repo/tree/"));
    assert_eq!(parts.count(), 2020);
}
