//! Builds: compilers and linkers, and what is rebuilt by times.

use super::*;

#[test]
#[ignore = "needs make and a C compiler, which .ci/run installs; it runs this"]
fn make_builds_what_changed_and_nothing_the_second_time() {
    let (server, mount) = world(None);
    let made = sh(
        &mount,
        r#"mkdir c; cd c
        printf 'int two(void);\n' > two.h
        printf '#include "two.h"\nint two(void) { return 2; }\n' > two.c
        printf '#include <stdio.h>\n#include "two.h"\nint main(void) { printf("%%d\\n", two()); return 0; }\n' > main.c
        printf 'program: main.o two.o\n\t$(CC) -o $@ $^\n%%.o: %%.c two.h\n\t$(CC) -c -o $@ $<\nlib.a: two.o\n\tar rcs $@ $^\n' > Makefile
        make -s program lib.a; ./program
        make -q program lib.a && echo nothing to do
        printf '#include "two.h"\nint two(void) { return 1 + 2; }\n' > two.c
        make -q program || echo something to do
        make program | grep -c -e '-c -o' ; ./program; make -q program && echo nothing to do"#,
    );
    let right = "2\nnothing to do\nsomething to do\n1\n3\nnothing to do\n";
    assert_eq!(made, right);
    arrives(&server, &mount);
    // Times are to the nanosecond on another machine, too.
    let second = Mounted::new(&server, ROOT, SOON);
    let looked = sh_in(&second, &second.path("c"), "make -q program; ./program");
    assert_eq!(looked, "3\n");
}

#[test]
#[ignore = "takes some seconds; .ci/run runs this"]
fn cargo_builds_a_crate_runs_its_test_and_builds_nothing_the_second_time() {
    let (server, mount) = world(None);
    let made = sh_with_cargo(
        &mount,
        r#"cargo init -q --vcs none --name sample crate; cd crate
        printf 'pub fn two() -> u32 { 2 }\n#[test]\nfn is_two() { assert_eq!(two(), 2) }\n' > src/lib.rs
        printf 'fn main() { println!("{}", sample::two()) }\n' > src/main.rs
        cargo build -q --offline; cargo test -q --offline --lib | grep -c '1 passed'
        target/debug/sample
        cargo build --offline 2>&1 | grep -c Compiling || true
        printf 'pub fn two() -> u32 { 3 }\n' > src/lib.rs
        cargo build --offline 2>&1 | grep -c Compiling; target/debug/sample"#,
    );
    assert_eq!(made, "1\n2\n0\n1\n3\n");
    arrives(&server, &mount);
}

/// As [`sh`], with the compiler that builds this.
fn sh_with_cargo(mount: &Mounted, script: &str) -> String {
    let own = std::env::var("HOME").unwrap();
    let home = |name: &str, folder: &str| {
        std::env::var(name).unwrap_or_else(|_| format!("{own}/{folder}"))
    };
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .env("CARGO_HOME", home("CARGO_HOME", ".cargo"))
        .env("RUSTUP_HOME", home("RUSTUP_HOME", ".rustup"))
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .current_dir(mount.path(""));
    shell::stdout(&mut command)
}

#[test]
#[ignore = "needs python3 with venv, which .ci/run installs; it runs this"]
fn python_makes_an_environment_and_imports_from_it() {
    let (server, mount) = world(None);
    let made = sh(
        &mount,
        "unset PYTHONDONTWRITEBYTECODE; /usr/bin/python3 -m venv env
         env/bin/python -c 'import sys, pip; print(sys.prefix != sys.base_prefix)'
         env/bin/pip --version | grep -c /env/
         mkdir package; echo 'value = 7' > package/__init__.py
         env/bin/python -c 'import package; print(package.value)'; ls package/__pycache__ | wc -l
         echo 'value = 80' > package/__init__.py
         env/bin/python -c 'import package; print(package.value)'
         env/bin/python -m compileall -q env",
    );
    assert_eq!(made, "True\n1\n7\n1\n80\n");
    arrives(&server, &mount);
}
