import Tensors

/// The phases of a transformer block's forward or backward pass: its four linear layers and attention.
struct BlockPhases {
    let qkv, attention, projection, fc1, fc2: Phase

    /// Declares a block's forward pass.
    init(forward name: String, part: String, in plan: MemoryPlan) {
        func phase(_ step: String) -> Phase { plan.phase("\(name) \(step)", part: part) }
        qkv = phase("qkv")
        attention = phase("attention")
        projection = phase("projection")
        fc1 = phase("fc1")
        fc2 = phase("fc2")
    }

    /// Declares a block's backward pass, which runs in reverse order.
    init(backward name: String, part: String, in plan: MemoryPlan) {
        func phase(_ step: String) -> Phase { plan.phase("\(name) \(step) backward", part: part) }
        fc2 = phase("fc2")
        fc1 = phase("fc1")
        projection = phase("projection")
        attention = phase("attention")
        qkv = phase("qkv")
    }
}

/// The phases of a block's passes, and the lifetime of its gradients.
struct BlockSchedule {
    let forward: BlockPhases
    /// Nil without a backward pass, like `gradient`.
    var backward: BlockPhases?
    /// From the phase that clears the gradients to the phase that passes them to the sink.
    var gradient: ClosedRange<Phase>?

    /// The phases of a layer that runs at one of the block's five.
    func layer(_ phase: KeyPath<BlockPhases, Phase>) -> LayerPhases {
        LayerPhases(
            forward: forward[keyPath: phase], backward: backward.map { $0[keyPath: phase] }, gradient: gradient)
    }

    /// The lifetime of a value that the forward pass writes in `first`. It is read until `lastBackward`, or until
    /// `last` without a backward pass.
    func value(
        _ first: KeyPath<BlockPhases, Phase>, _ last: KeyPath<BlockPhases, Phase>,
        backward lastBackward: KeyPath<BlockPhases, Phase>
    ) -> Lifetime {
        .during(forward[keyPath: first]...(backward?[keyPath: lastBackward] ?? forward[keyPath: last]))
    }
}

/// The phases of an encoder's forward pass.
struct EncoderForward {
    let embedding: Phase
    let blocks: [BlockPhases]
    let norm: Phase

    init(_ part: String, blocks count: Int, in plan: MemoryPlan) {
        embedding = plan.phase("\(part) embedding", part: part)
        blocks = (0..<count).map { BlockPhases(forward: "\(part) blocks.\($0)", part: part, in: plan) }
        norm = plan.phase("\(part) norm", part: part)
    }
}

/// The phases of an encoder's backward pass.
struct EncoderBackward {
    struct Block {
        /// The block's gradients are cleared.
        let start: Phase
        let parts: BlockPhases
        /// The block's gradients are passed to the sink.
        let complete: Phase
    }
    /// The final norm's backward pass; before it, the gradients of all tensors outside the blocks are cleared.
    let norm: Phase
    /// By block number; the last block runs first.
    let blocks: [Block]
    let embedding: Phase
    /// The gradients of all tensors outside the blocks are passed to the sink.
    let complete: Phase
    /// By the number of the aligned pair: its gradient is added to the gradient with respect to the student block's
    /// output.
    let alignments: [Phase]

    /// - Parameter alignedBlocks: the student's block of each aligned pair.
    init(_ part: String, blocks count: Int, alignedBlocks: [Int] = [], in plan: MemoryPlan) {
        norm = plan.phase("\(part) norm backward", part: part)
        var blocks: [Block] = []
        var alignments = [Phase](repeating: norm, count: alignedBlocks.count)
        for block in (0..<count).reversed() {
            let name = "\(part) blocks.\(block)"
            let start = plan.phase("\(name) backward", part: part)
            for (pair, aligned) in alignedBlocks.enumerated() where aligned == block {
                alignments[pair] = plan.phase("alignment \(pair) backward", part: "alignment")
            }
            let parts = BlockPhases(backward: name, part: part, in: plan)
            blocks.append(Block(start: start, parts: parts, complete: plan.phase("\(name) is complete")))
        }
        self.blocks = blocks.reversed()
        self.alignments = alignments
        embedding = plan.phase("\(part) embedding backward", part: part)
        complete = plan.phase("\(part) is complete")
    }

    /// The lifetime of the gradients of tensors outside the blocks.
    var gradient: ClosedRange<Phase> { norm...complete }
}
