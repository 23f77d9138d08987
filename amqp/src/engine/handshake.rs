//! Protocol headers and SASL, until both ends speak AMQP.

use bytes::Bytes;

use super::config::{ClientSasl, ServerSasl};
use super::connection::{Connection, Phase};
use super::error::CommandError;
use super::event::{CloseReason, Event};
use crate::frame::{Frame, FrameKind, ProtocolHeader};
use crate::performative::{
    AmqpError, SaslChallenge, SaslCode, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse, condition,
};
use crate::wire::{Reader, Symbol};

/// Where the handshake stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Handshake {
    step: Step,
    /// The client's mechanism and response; none on a server.
    client: Option<(Symbol, Bytes)>,
    /// The server's mechanisms.
    mechanisms: Vec<Symbol>,
    accept_all: bool,
    is_client: bool,
    /// A server that takes no one without SASL, and has not had it yet.
    needs_sasl: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// The peer's next header is awaited.
    Header,
    /// SASL frames go back and forth.
    Sasl,
    /// SASL is done; the peer's AMQP header is awaited.
    AmqpHeader,
}

impl Handshake {
    pub(crate) fn server(sasl: ServerSasl) -> Self {
        Self {
            step: Step::Header,
            client: None,
            mechanisms: sasl.mechanisms,
            accept_all: sasl.accept_all,
            is_client: false,
            needs_sasl: sasl.required,
        }
    }

    pub(crate) fn client(sasl: ClientSasl) -> Self {
        let step = if sasl.0.is_some() { Step::Header } else { Step::AmqpHeader };
        Self { step, client: sasl.0, mechanisms: Vec::new(), accept_all: false, is_client: true, needs_sasl: false }
    }

    pub(crate) fn wants_header(&self) -> bool {
        !matches!(self.step, Step::Sasl)
    }
}

impl Connection {
    pub(crate) fn start_client(&mut self) {
        let Phase::Handshake(handshake) = &self.phase else { return };
        if handshake.client.is_some() {
            self.output.protocol_header(ProtocolHeader::SASL);
        } else {
            self.output.protocol_header(ProtocolHeader::AMQP);
            self.send_open();
        }
    }

    pub(crate) fn on_protocol_header(&mut self, header: ProtocolHeader) {
        let Phase::Handshake(handshake) = &mut self.phase else { return };
        let (is_client, step, needs_sasl) = (handshake.is_client, handshake.step, handshake.needs_sasl);
        match (header, step) {
            (ProtocolHeader::AMQP, Step::AmqpHeader) => self.amqp_begins(is_client),
            (ProtocolHeader::AMQP, Step::Header) if !is_client && !needs_sasl => self.amqp_begins(false),
            (ProtocolHeader::SASL, Step::Header) if is_client => handshake.step = Step::Sasl,
            (ProtocolHeader::SASL, Step::Header) => {
                handshake.step = Step::Sasl;
                let sasl_server_mechanisms = handshake.mechanisms.clone();
                self.output.protocol_header(ProtocolHeader::SASL);
                self.send_sasl(&SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms }));
            }
            (ProtocolHeader(bytes), _) => {
                // A server answers with what it would have taken, as the standard asks, and hangs up.
                if !is_client {
                    let wanted = if step == Step::AmqpHeader { ProtocolHeader::AMQP } else { ProtocolHeader::SASL };
                    self.output.protocol_header(wanted);
                }
                self.finish(CloseReason::Protocol(bytes));
            }
        }
    }

    fn amqp_begins(&mut self, is_client: bool) {
        if !is_client {
            self.output.protocol_header(ProtocolHeader::AMQP);
        }
        self.phase = Phase::Opening;
    }

    pub(crate) fn on_sasl_frame(&mut self, frame: &Frame) -> Result<(), AmqpError> {
        let sasl = SaslFrame::decode(&mut Reader::new(&frame.body))
            .map_err(|e| AmqpError::new(condition::DECODE_ERROR, format!("SASL: {e}")))?;
        let Phase::Handshake(handshake) = &mut self.phase else { return Ok(()) };
        match (handshake.is_client, sasl) {
            (false, SaslFrame::Init(_)) if handshake.accept_all => {
                self.sasl_done(SaslCode::Ok);
                self.send_sasl(&SaslFrame::Outcome(SaslOutcome { code: SaslCode::Ok, additional_data: None }));
            }
            (false, SaslFrame::Init(SaslInit { mechanism, initial_response, hostname })) => {
                if !handshake.mechanisms.contains(&mechanism) {
                    return self.sasl_outcome(SaslCode::Auth).map_err(|_| unexpected());
                }
                let response = initial_response.unwrap_or_default();
                self.events.push_back(Event::SaslInit { mechanism, response, hostname });
            }
            (false, SaslFrame::Response(SaslResponse { response })) => {
                self.events.push_back(Event::SaslResponse(response));
            }
            (true, SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: offered })) => {
                let Some((mechanism, response)) = handshake.client.clone() else { return Err(unexpected()) };
                if !offered.contains(&mechanism) {
                    self.finish(CloseReason::SaslMechanisms(offered));
                    return Ok(());
                }
                let hostname = self.config.hostname.clone();
                let init = SaslInit { mechanism, initial_response: Some(response), hostname };
                self.send_sasl(&SaslFrame::Init(init));
            }
            // None of our mechanisms asks back; an empty answer lets the server decide.
            (true, SaslFrame::Challenge(_)) => {
                self.send_sasl(&SaslFrame::Response(SaslResponse { response: Bytes::new() }));
            }
            (true, SaslFrame::Outcome(SaslOutcome { code: SaslCode::Ok, .. })) => {
                self.sasl_done(SaslCode::Ok);
                self.output.protocol_header(ProtocolHeader::AMQP);
                self.send_open();
            }
            (true, SaslFrame::Outcome(SaslOutcome { code, .. })) => self.finish(CloseReason::SaslRefused(code)),
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    /// Ends the SASL exchange of a server. Anything but `Ok` ends the connection.
    ///
    /// # Errors
    /// If no client waits for it.
    pub fn sasl_outcome(&mut self, code: SaslCode) -> Result<(), CommandError> {
        self.server_sasl()?;
        self.send_sasl(&SaslFrame::Outcome(SaslOutcome { code, additional_data: None }));
        self.sasl_done(code);
        Ok(())
    }

    /// Asks the client back; it answers with [`Event::SaslResponse`].
    ///
    /// # Errors
    /// If no client waits for it.
    pub fn sasl_challenge(&mut self, challenge: Bytes) -> Result<(), CommandError> {
        self.server_sasl()?;
        self.send_sasl(&SaslFrame::Challenge(SaslChallenge { challenge }));
        Ok(())
    }

    fn server_sasl(&self) -> Result<(), CommandError> {
        match &self.phase {
            Phase::Handshake(Handshake { step: Step::Sasl, is_client: false, .. }) => Ok(()),
            _ => Err(CommandError::NoSasl),
        }
    }

    fn sasl_done(&mut self, code: SaslCode) {
        if code != SaslCode::Ok {
            return self.finish(CloseReason::SaslRefused(code));
        }
        if let Phase::Handshake(handshake) = &mut self.phase {
            handshake.step = Step::AmqpHeader;
            handshake.needs_sasl = false;
        }
    }

    fn send_sasl(&mut self, frame: &SaslFrame) {
        self.output.frame(FrameKind::Sasl, 0, |buf| frame.encode(buf));
    }
}

fn unexpected() -> AmqpError {
    AmqpError::new(condition::ILLEGAL_STATE, "a SASL frame out of its order")
}
