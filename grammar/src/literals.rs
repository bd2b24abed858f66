//! A finite set of byte strings as a trie: choices, enumerations, property names.

/// A node of a [`LiteralTrie`]; the root is 0.
pub(crate) type LiteralNode = u32;

/// A set of byte strings, each with the index it was given in order of insertion.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiteralTrie {
    nodes: Vec<TrieNode>,
}

#[derive(Clone, Debug, Default)]
struct TrieNode {
    /// Sorted by byte.
    children: Vec<(u8, LiteralNode)>,
    literal: Option<u32>,
    /// Ascending indices of the literals at this node and below.
    below: Vec<u32>,
    /// Fewest bytes to the end of a literal.
    distance: u32,
    /// Bytes from the root.
    depth: u32,
}

impl LiteralTrie {
    /// From byte strings; a repeated one keeps its first index.
    pub(crate) fn new<B: AsRef<[u8]>>(literals: &[B]) -> Self {
        let root = TrieNode {
            distance: u32::MAX,
            ..TrieNode::default()
        };
        let mut trie = Self { nodes: vec![root] };
        for (idx, literal) in literals.iter().enumerate() {
            trie.insert(literal.as_ref(), idx as u32);
        }
        trie
    }

    fn insert(&mut self, literal: &[u8], idx: u32) {
        if self.find(literal).is_some() {
            return;
        }
        let mut node = 0;
        self.pass(node, literal.len(), idx);
        for (n_done, &byte) in literal.iter().enumerate() {
            let children = &self.nodes[node as usize].children;
            node = match children.binary_search_by_key(&byte, |&(byte, _)| byte) {
                Ok(place) => children[place].1,
                Err(place) => {
                    let child = self.nodes.len() as LiteralNode;
                    self.nodes[node as usize]
                        .children
                        .insert(place, (byte, child));
                    let (distance, depth) = (u32::MAX, n_done as u32 + 1);
                    self.nodes.push(TrieNode {
                        distance,
                        depth,
                        ..TrieNode::default()
                    });
                    child
                }
            };
            self.pass(node, literal.len() - n_done - 1, idx);
        }
        self.nodes[node as usize].literal = Some(idx);
    }

    fn pass(&mut self, node: LiteralNode, n_left: usize, idx: u32) {
        let node = &mut self.nodes[node as usize];
        node.below.push(idx);
        node.distance = node.distance.min(n_left as u32);
    }

    /// The index of a literal of the set.
    pub(crate) fn find(&self, literal: &[u8]) -> Option<u32> {
        let node = literal
            .iter()
            .try_fold(0, |node, &byte| self.child(node, byte))?;
        self.literal(node)
    }

    /// The node after `byte`.
    pub(crate) fn child(&self, node: LiteralNode, byte: u8) -> Option<LiteralNode> {
        let children = &self.nodes[node as usize].children;
        let place = children
            .binary_search_by_key(&byte, |&(byte, _)| byte)
            .ok()?;
        Some(children[place].1)
    }

    /// The literal that ends at `node`.
    pub(crate) fn literal(&self, node: LiteralNode) -> Option<u32> {
        self.nodes[node as usize].literal
    }

    /// Ascending indices of the literals that pass through `node` or end there.
    pub(crate) fn below(&self, node: LiteralNode) -> &[u32] {
        &self.nodes[node as usize].below
    }

    /// Fewest bytes from `node` to the end of a literal; `u32::MAX` for the root of an empty set.
    pub(crate) fn distance(&self, node: LiteralNode) -> u32 {
        self.nodes[node as usize].distance
    }

    /// Bytes from the root to `node`.
    pub(crate) fn depth(&self, node: LiteralNode) -> u32 {
        self.nodes[node as usize].depth
    }

    /// Whether the set holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes[0].below.is_empty()
    }
}
