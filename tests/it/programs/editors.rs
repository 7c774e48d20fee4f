//! Editors: each of their ways to save is one more version of the same file, or a file that took its name.

use super::*;

#[test]
#[ignore = "needs vim, which .ci/run installs; it runs this"]
fn vim_saves_in_each_of_its_ways() {
    let (server, mount) = world(Some(("text.txt", "old\n")));
    for (at, backup) in [
        "nobackup | set nowritebackup",
        "backup | set backupcopy=yes",
        "nobackup | set backupcopy=no",
    ]
    .iter()
    .enumerate()
    {
        let script = format!(
            "vim -N -u NONE -i NONE -n -es -c 'set {backup}' -c 'normal oline {at}' -c 'wq' text.txt </dev/null || true; rm -f text.txt~"
        );
        sh(&mount, &script);
    }
    let shown = arrives(&server, &mount);
    assert_eq!(
        shown["text.txt"].content(),
        b"old\nline 0\nline 1\nline 2\n"
    );
    assert_eq!(shown.len(), 1, "{:?}", shown.keys());
}

#[test]
#[ignore = "needs vim, which .ci/run installs; it runs this"]
fn what_vim_had_not_saved_is_recovered_from_its_swap_file() {
    let (server, mount) = world(Some(("text.txt", "old\n")));
    // Dies as if killed, with its swap file behind it.
    sh(
        &mount,
        "vim -N -u NONE -i NONE -es -c 'normal onever saved' -c 'preserve' -c 'call system(\"kill -9 \" . getpid())' text.txt </dev/null || true
         test -e .text.txt.swp
         vim -N -u NONE -i NONE -es -r -c 'wq' text.txt </dev/null || true
         rm .text.txt.swp",
    );
    let shown = arrives(&server, &mount);
    assert_eq!(shown["text.txt"].content(), b"old\nnever saved\n");
    assert_eq!(shown.len(), 1, "{:?}", shown.keys());
}

#[test]
#[ignore = "needs emacs-nox, which .ci/run installs; it runs this"]
fn emacs_saves_with_a_lock_a_backup_and_an_automatic_save() {
    let (server, mount) = world(Some(("text.txt", "old\n")));
    let save = |what: &str, settings: &str| {
        let script = format!(
            "emacs -Q --batch --eval '(progn (setq backup-enable-predicate (lambda (name) t)) {settings} (find-file \"text.txt\") (goto-char (point-max)) (insert \"{what}\\n\") (do-auto-save) (save-buffer))' 2>&1"
        );
        sh(&mount, &script);
    };
    save("renamed", "(setq backup-by-copying nil)");
    save("copied", "(setq backup-by-copying t make-backup-files t)");
    save("precious", "(setq file-precious-flag t)");
    save("numbered", "(setq version-control t)");
    let shown = arrives(&server, &mount);
    let last = b"old\nrenamed\ncopied\nprecious\nnumbered\n";
    assert_eq!(shown["text.txt"].content(), last);
    let names: Vec<_> = shown.keys().map(String::as_str).collect();
    assert_eq!(names, ["text.txt", "text.txt.~1~", "text.txt~"]);
}

#[test]
fn an_office_saves_by_lock_file_backup_and_rename() {
    let (server, mount) = world(Some(("letter.odt", "first version")));
    let id = server.file_id("letter.odt");
    sh(
        &mount,
        "echo me > .~lock.letter.odt#
         echo 'second version' > lu123.tmp; sync lu123.tmp
         mv letter.odt letter.odt.bak; mv lu123.tmp letter.odt; rm letter.odt.bak
         echo 'third version' > .letter.odt.new; mv -f .letter.odt.new letter.odt
         rm .~lock.letter.odt#",
    );
    let shown = arrives(&server, &mount);
    assert_eq!(shown["letter.odt"].content(), b"third version\n");
    assert_eq!(shown.len(), 1);
    // The first one was moved away, and with it its id.
    assert_ne!(server.file_id("letter.odt"), id);
}
