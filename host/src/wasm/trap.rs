//! What is said of a guest that broke: which kind of end it was, in one sentence, with its stderr and its frames.

use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::context::{Context, Refused};
use super::text::{clean, size};
use crate::guest::{TrapCause, TrapReport};

/// Bytes of a message and of a backtrace that are kept.
const MESSAGE: usize = 2 << 10;
const BACKTRACE: usize = 8 << 10;

/// What was going on, for the sentence: `a batch of 500 events (512 KiB)`.
pub(super) struct Work(pub(super) String);

/// A report without a guest's frames, for ends that the host decided on.
pub(super) fn report(cause: TrapCause, message: String, context: &Context) -> TrapReport {
    TrapReport { cause, message, stderr: context.stderr.take(), backtrace: String::new() }
}

/// Reads a report out of wasmtime's error and what the context remembers.
pub(super) fn classify(error: &Error, context: &Context, work: &Work) -> TrapReport {
    let stderr = context.stderr.take();
    let (cause, message) = describe(error, context, work, &stderr);
    TrapReport { cause, message, stderr, backtrace: backtrace(error) }
}

fn describe(error: &Error, context: &Context, work: &Work, stderr: &str) -> (TrapCause, String) {
    let Work(work) = work;
    if let Some(wanted) = context.memory.refused {
        return (TrapCause::OutOfMemory, out_of_memory(wanted, context, work));
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        let message =
            format!("it called exit with status {status} during {work}; a processor answers, it does not exit");
        return (TrapCause::Exit, message);
    }
    if is_out_of_fuel(error) {
        let message = format!(
            "it handed over more than {} at once (during {work}); raise limits.host-call-bytes, or hand over less",
            size(context.options.limits.host_call_bytes)
        );
        return (TrapCause::Trap, message);
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return (TrapCause::Trap, clean(&format!("{error:#} (during {work})"), MESSAGE, false));
    };
    let (cause, message) = match trap {
        Trap::Interrupt => (
            TrapCause::Deadline,
            format!(
                "it computed for more than {:?}; raise limits.time, or look for a loop",
                context.options.limits.time
            ),
        ),
        Trap::UnreachableCodeReached => (
            TrapCause::Trap,
            panic_message(stderr).unwrap_or_else(|| "it aborted (WebAssembly `unreachable`)".to_owned()),
        ),
        Trap::StackOverflow => (
            TrapCause::Trap,
            format!("its stack of {} overflowed: too deep a recursion, or raise host.guest-stack", size(context.stack)),
        ),
        Trap::MemoryOutOfBounds => {
            let message = "it touched memory out of bounds: a wild pointer, or too deep a recursion for the stack that its \
                           linker gave it (`-z stack-size`)";
            (TrapCause::Trap, message.to_owned())
        }
        other => (TrapCause::Trap, other.to_string()),
    };
    (cause, clean(&format!("{message} (during {work})"), MESSAGE, false))
}

/// Whether the guest had the host copy too much. wasmtime keeps the type of this error to itself, so its text has to do; a test
/// sees to it that it is recognised.
fn is_out_of_fuel(error: &Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls")
}

/// A refused growth, and how to avoid it.
pub(super) fn out_of_memory(refused: Refused, context: &Context, work: &str) -> String {
    let memory = &context.memory;
    let wanted = match refused {
        Refused::Memory(wanted) => wanted,
        Refused::Table(wanted) => {
            return format!(
                "it wanted tables with {wanted} more elements, with {} in use, and its limit is {} (during {work}); \
                 raise limits.table-elements",
                memory.elements, memory.table_limit
            );
        }
    };
    format!(
        "it wanted {} more with {} in use, and its limit is {} (during {work}); raise limits.memory, or lower batch.bytes",
        size(wanted),
        size(memory.held),
        size(memory.limit)
    )
}

/// A Rust panic as one line: `panicked at src/lib.rs:3:5: the message`.
fn panic_message(stderr: &str) -> Option<String> {
    let from = stderr.rfind("panicked at ")?;
    let text: Vec<&str> = stderr[from..].lines().take_while(|line| !line.starts_with("note: ")).take(4).collect();
    Some(text.join(" "))
}

/// The guest's frames with demangled names, innermost first.
fn backtrace(error: &Error) -> String {
    let Some(frames) = error.downcast_ref::<WasmBacktrace>().filter(|frames| !frames.frames().is_empty()) else {
        return String::new();
    };
    let text = frames.to_string();
    let lines: Vec<&str> = text.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    clean(&lines.join("\n"), BACKTRACE, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_line() {
        let stderr = "starting\n\nthread '<unnamed>' (1) panicked at src/lib.rs:3:5:\nno such carrier\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panic_message(stderr).as_deref(), Some("panicked at src/lib.rs:3:5: no such carrier"));
        assert_eq!(panic_message("nothing"), None);
    }
}
