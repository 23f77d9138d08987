//! The protocol's rules, each with a switch.

/// What a host must keep to. The numbers are those of the protocol's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// R1: an ownership record is written on the condition of the ETag that was seen.
    ClaimByCondition,
    /// R2: a checkpoint is written on the condition of the ETag of this tenancy.
    CommitByCondition,
    /// R3: the checkpoint is read after the claim, not before.
    ReadAfterClaim,
    /// R4: a new tenancy writes the checkpoint again as it is, so that older writes miss.
    Fence,
    /// R5: the broker cuts the older of two links.
    OwnerLevel,
    /// R6: only the contiguous acknowledged prefix is committed.
    AcknowledgedPrefix,
    /// R7: state and position are one write.
    OneWrite,
    /// R8: an open outcome is settled by what is stored, never by a fresh ETag.
    Reconcile,
    /// R10: memory dies with the tenancy.
    Forget,
    /// R11: a new link begins after the last event of this tenancy, and a step back is refused.
    ResumeAfterLast,
    /// R12: outputs are durable before the commit.
    OutputsFirst,
    /// R14: a state whose own number disagrees with the checkpoint is refused.
    StateNumber,
    /// R15: who loses a link to another claims again before attaching again.
    ReclaimStolen,
    /// R16: a checkpoint of a newer generation ends the tenancy.
    NewerGeneration,
    /// A commit is known again (R8) by a mark that no other tenancy has. The generation is no such mark: it begins again
    /// with an ownership record that was deleted, or that another SDK has written.
    OwnMark,
    /// A claim's generation is above the checkpoint's, too, or R16 ends every tenancy until it has caught up.
    GenerationAbove,
    /// A partition that is given up is finished and committed before it is released.
    DrainFirst,
    /// What a host has not renewed for the expiry is claimed.
    TakeOver,
    /// In exclusive mode, a host that gives signs has what is in its name, however old the records are.
    SignsStand,
}

/// The rules that hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules(u32);

impl Rules {
    pub(super) const ALL: Self = Self(u32::MAX);

    pub(super) fn without(rules: &[Rule]) -> Self {
        Self(rules.iter().fold(u32::MAX, |on, rule| on & !(1 << *rule as u32)))
    }

    pub(super) fn on(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}
