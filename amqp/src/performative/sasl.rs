//! The SASL layer (part 5.3 of the standard).

use bytes::{Bytes, BytesMut};

use super::composite::composite;
use super::{Composite, Field, identify};
use crate::wire::{DecodeError, Reader, Symbol, Writer};

composite! {
    /// The server's mechanisms.
    pub struct SaslMechanisms = 0x40 "amqp:sasl-mechanisms:list" {
        /// In order of preference.
        sasl_server_mechanisms: Vec<Symbol>,
    }
}

composite! {
    /// The client's choice.
    pub struct SaslInit = 0x41 "amqp:sasl-init:list" {
        /// The mechanism.
        mechanism: Symbol,
        /// Its first answer. Often a secret: not for logs.
        initial_response: Option<Bytes>,
        /// Whom the client wants to talk to.
        hostname: Option<String>,
    }
}

composite! {
    /// A question of the server's mechanism.
    pub struct SaslChallenge = 0x42 "amqp:sasl-challenge:list" {
        /// The question.
        challenge: Bytes,
    }
}

composite! {
    /// The client's answer.
    pub struct SaslResponse = 0x43 "amqp:sasl-response:list" {
        /// The answer.
        response: Bytes,
    }
}

composite! {
    /// The end of the negotiation.
    pub struct SaslOutcome = 0x44 "amqp:sasl-outcome:list" {
        /// How it ended.
        code: SaslCode,
        /// Anything the mechanism adds.
        additional_data: Option<Bytes>,
    }
}

/// How a SASL negotiation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslCode {
    /// The client is authenticated.
    Ok,
    /// The credentials are wrong.
    Auth,
    /// The server has a problem.
    Sys,
    /// The server has a problem that stays.
    SysPerm,
    /// The server has a problem that passes.
    SysTemp,
}

impl Field for SaslCode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.ubyte()? {
            0 => Self::Ok,
            1 => Self::Auth,
            2 => Self::Sys,
            3 => Self::SysPerm,
            4 => Self::SysTemp,
            _ => return Err(DecodeError::Range { what: "sasl-code" }),
        })
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.ubyte(*self as u8);
    }
}

/// The body of a SASL frame.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
pub enum SaslFrame {
    Mechanisms(SaslMechanisms),
    Init(SaslInit),
    Challenge(SaslChallenge),
    Response(SaslResponse),
    Outcome(SaslOutcome),
}

impl SaslFrame {
    /// Reads the body of a SASL frame.
    ///
    /// # Errors
    /// If it is none of the five, or not valid.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = identify(reader, "a SASL frame", |name| {
            Some(match name {
                SaslMechanisms::NAME => SaslMechanisms::CODE,
                SaslInit::NAME => SaslInit::CODE,
                SaslChallenge::NAME => SaslChallenge::CODE,
                SaslResponse::NAME => SaslResponse::CODE,
                SaslOutcome::NAME => SaslOutcome::CODE,
                _ => return None,
            })
        })?;
        Ok(match code {
            SaslMechanisms::CODE => Self::Mechanisms(SaslMechanisms::decode_fields(reader)?),
            SaslInit::CODE => Self::Init(SaslInit::decode_fields(reader)?),
            SaslChallenge::CODE => Self::Challenge(SaslChallenge::decode_fields(reader)?),
            SaslResponse::CODE => Self::Response(SaslResponse::decode_fields(reader)?),
            SaslOutcome::CODE => Self::Outcome(SaslOutcome::decode_fields(reader)?),
            descriptor => return Err(DecodeError::UnknownDescriptor { expected: "a SASL frame", descriptor }),
        })
    }

    /// Appends it to a buffer.
    pub fn encode(&self, buf: &mut BytesMut) {
        let w = &mut Writer::new(buf);
        match self {
            Self::Mechanisms(f) => f.write(w),
            Self::Init(f) => f.write(w),
            Self::Challenge(f) => f.write(w),
            Self::Response(f) => f.write(w),
            Self::Outcome(f) => f.write(w),
        }
    }
}
