//! All that a walk in runs reads of a node, in sixteen bytes: it skips much of what it meets, and then waits for memory.

use crate::runs::{Groups, Run};
use crate::trie::Node;

/// A node, with what the tokens of its subtree consist of from its byte on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brief {
    /// The groups of their characters.
    pub(super) groups: Groups,
    /// Index after its last descendant.
    pub(super) end: u32,
    /// On the edge into the node.
    pub(super) byte: u8,
    /// Twice the depth, `DEEP` if that has no room; one more if some token ends here.
    depth: u8,
    /// The fewest and most characters of one token.
    fewest: u8,
    pub(super) most: u8,
}

const DEEP: u8 = u8::MAX - 1;

impl Brief {
    /// Of no tokens yet.
    pub(super) const NONE: Self = Self {
        groups: 0,
        end: 0,
        byte: 0,
        depth: 0,
        fewest: u8::MAX,
        most: 0,
    };

    /// Adds what a token consists of.
    pub(super) fn add(&mut self, (groups, n_characters): (Groups, u8)) {
        self.groups |= groups;
        self.fewest = self.fewest.min(n_characters);
        self.most = self.most.max(n_characters);
    }

    /// Once all tokens are added: the rest, of a node and the one behind it.
    pub(super) fn complete(&mut self, node: &Node, next: &Node) {
        let depth = u8::try_from(2 * node.depth).map_or(DEEP, |depth| depth.min(DEEP));
        self.depth = depth | u8::from(next.first_token > node.first_token);
        self.end = node.subtree_end;
        self.byte = node.byte;
    }

    /// Whether some token ends here.
    pub(super) fn is_token(&self) -> bool {
        self.depth & 1 == 1
    }

    /// The depth, if it is told here.
    pub(super) fn depth(&self) -> Option<usize> {
        (self.depth < DEEP).then_some(usize::from(self.depth / 2))
    }

    /// Whether the run before it, with `n` characters that it takes, tells of all its tokens.
    pub(super) fn is_told(&self, run: Run, n: u8) -> bool {
        run.tells(self.groups, self.most.saturating_add(n))
            || run.ends(self.groups, self.fewest.saturating_add(n))
    }
}
