//! Logging through the host, which adds processor and partition.
//!
//! [`info!`](crate::info) and its siblings take what `format!` takes, and fields before it:
//!
//! ```
//! let (carrier, minutes) = ("UA", 42);
//! weir_guest::warn!("a strange delay");
//! weir_guest::info!(carrier = carrier, minutes = minutes; "late by {minutes} minutes");
//! ```
//!
//! Each line is a call to the host: per batch rather than per event. Natively, outside a test
//! [`Harness`](crate::testing::Harness), lines go to standard error.

pub use crate::bindings::weir::processor::logging::Level;
use crate::host;

/// Writes a line with fields. The macros are shorter.
pub fn write(level: Level, message: &str, fields: &[(String, String)]) {
    host::log(level, message, fields);
}

/// What the level macros have in common.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($key:ident = $value:expr),+ ; $($text:tt)+) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($($text)+),
            &[$((::std::string::String::from(::core::stringify!($key)), ::std::string::ToString::to_string(&$value))),+],
        )
    };
    ($level:ident, $($text:tt)+) => {
        $crate::log::write($crate::log::Level::$level, &::std::format!($($text)+), &[])
    };
}

/// Logs at level trace; see [`log`](mod@crate::log).
#[macro_export]
macro_rules! trace { ($($args:tt)+) => { $crate::__log!(Trace, $($args)+) }; }

/// Logs at level debug; see [`log`](mod@crate::log).
#[macro_export]
macro_rules! debug { ($($args:tt)+) => { $crate::__log!(Debug, $($args)+) }; }

/// Logs at level info; see [`log`](mod@crate::log).
#[macro_export]
macro_rules! info { ($($args:tt)+) => { $crate::__log!(Info, $($args)+) }; }

/// Logs at level warn; see [`log`](mod@crate::log).
#[macro_export]
macro_rules! warn { ($($args:tt)+) => { $crate::__log!(Warn, $($args)+) }; }

/// Logs at level error; see [`log`](mod@crate::log).
#[macro_export]
macro_rules! error { ($($args:tt)+) => { $crate::__log!(Error, $($args)+) }; }
