import Tensors

/// The moments of a transformer block's forward or backward pass: its four linear layers and attention.
struct BlockMoments {
    let qkv, attention, projection, fc1, fc2: Moment

    /// Declares a block's forward pass.
    init(forward name: String, part: String, in plan: MemoryPlan) {
        func moment(_ step: String) -> Moment { plan.moment("\(name) \(step)", part: part) }
        qkv = moment("qkv")
        attention = moment("attention")
        projection = moment("projection")
        fc1 = moment("fc1")
        fc2 = moment("fc2")
    }

    /// Declares a block's backward pass, which runs in reverse order.
    init(backward name: String, part: String, in plan: MemoryPlan) {
        func moment(_ step: String) -> Moment { plan.moment("\(name) \(step) backward", part: part) }
        fc2 = moment("fc2")
        fc1 = moment("fc1")
        projection = moment("projection")
        attention = moment("attention")
        qkv = moment("qkv")
    }
}

/// The moments of a block's passes, and the lifetime of its gradients.
struct BlockSchedule {
    let forward: BlockMoments
    /// Nil without a backward pass, like `gradient`.
    var backward: BlockMoments?
    /// From the moment that clears the gradients to the moment that passes them to the sink.
    var gradient: ClosedRange<Moment>?

    /// The moments of a layer that runs at one of the block's five.
    func layer(_ moment: KeyPath<BlockMoments, Moment>) -> LayerMoments {
        LayerMoments(
            forward: forward[keyPath: moment], backward: backward.map { $0[keyPath: moment] }, gradient: gradient)
    }

    /// The lifetime of a value that the forward pass writes in `first`. It is read until `lastBackward`, or until
    /// `last` without a backward pass.
    func value(
        _ first: KeyPath<BlockMoments, Moment>, _ last: KeyPath<BlockMoments, Moment>,
        backward lastBackward: KeyPath<BlockMoments, Moment>
    ) -> Lifetime {
        .during(forward[keyPath: first]...(backward?[keyPath: lastBackward] ?? forward[keyPath: last]))
    }
}

/// The moments of an encoder's forward pass.
struct EncoderForward {
    let embedding: Moment
    let blocks: [BlockMoments]
    let norm: Moment

    init(_ part: String, blocks count: Int, in plan: MemoryPlan) {
        embedding = plan.moment("\(part) embedding", part: part)
        blocks = (0..<count).map { BlockMoments(forward: "\(part) blocks.\($0)", part: part, in: plan) }
        norm = plan.moment("\(part) norm", part: part)
    }
}

/// The moments of an encoder's backward pass.
struct EncoderBackward {
    struct Block {
        /// The block's gradients are cleared.
        let start: Moment
        let parts: BlockMoments
        /// The block's gradients are passed to the sink.
        let complete: Moment
    }
    /// The final norm's backward pass; before it, the gradients of all tensors outside the blocks are cleared.
    let norm: Moment
    /// By block number; the last block runs first.
    let blocks: [Block]
    let embedding: Moment
    /// The gradients of all tensors outside the blocks are passed to the sink.
    let complete: Moment
    /// By the number of the aligned pair: its gradient is added to the gradient with respect to the student block's
    /// output.
    let alignments: [Moment]

    /// - Parameter alignedBlocks: the student's block of each aligned pair.
    init(_ part: String, blocks count: Int, alignedBlocks: [Int] = [], in plan: MemoryPlan) {
        norm = plan.moment("\(part) norm backward", part: part)
        var blocks: [Block] = []
        var alignments = [Moment](repeating: norm, count: alignedBlocks.count)
        for block in (0..<count).reversed() {
            let name = "\(part) blocks.\(block)"
            let start = plan.moment("\(name) backward", part: part)
            for (pair, aligned) in alignedBlocks.enumerated() where aligned == block {
                alignments[pair] = plan.moment("alignment \(pair) backward", part: "alignment")
            }
            let parts = BlockMoments(backward: name, part: part, in: plan)
            blocks.append(Block(start: start, parts: parts, complete: plan.moment("\(name) is complete")))
        }
        self.blocks = blocks.reversed()
        self.alignments = alignments
        embedding = plan.moment("\(part) embedding backward", part: part)
        complete = plan.moment("\(part) is complete")
    }

    /// The lifetime of the gradients of tensors outside the blocks.
    var gradient: ClosedRange<Moment> { norm...complete }
}
