//! Processor time of a process, and of the whole machine.

use crate::Outcome;

/// Ticks of `/proc/PID/stat` and `/proc/stat` a second: USER_HZ, the same on every Linux that Rust runs on
/// (→ proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process since it began, user and system, in seconds. Exact to 10 ms.
pub(crate) fn of_process(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything; user and system time are the 12th and 13th field behind it.
    let (_, fields) = stat.rsplit_once(')').ok_or("no brackets in stat")?;
    seconds(fields.split_ascii_whitespace().skip(11).take(2))
}

/// Processor time of everything on this machine since it started, in seconds; what the host took away is not in it.
pub(crate) fn of_all() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let mut fields = stat.split_ascii_whitespace().skip(1);
    // user, nice, system; then idle and iowait, which is no work; then irq and softirq.
    let worked = seconds(fields.by_ref().take(3))?;
    Ok(worked + seconds(fields.skip(2).take(2))?)
}

/// How many cores there are to work.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

fn seconds<'a>(ticks: impl Iterator<Item = &'a str>) -> Outcome<f64> {
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
