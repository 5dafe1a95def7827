import Models
import Ranks
import Tensors

/// The parameters of a model divided among the processes of a run: each owns neighbouring tensors of about as many bytes,
/// adds up their gradients, keeps their optimiser state and updates them.
package struct Shards {
    /// The process that owns each of `parameters.all`.
    package let owners: [Int]

    package init(of parameters: Parameters, among count: Int) {
        let sizes = parameters.all.map { $0.isTrained ? $0.weight.count : 0 }
        let total = max(1, sizes.reduce(0, +))
        var before = 0
        owners = sizes.map { size in
            defer { before += size }
            // By the middle of the tensor, so that each cut is where it is nearest to even.
            return min(count - 1, (2 * before + size) * count / (2 * total))
        }
    }
}

/// Adds the gradients of all processes, and gives the updated weights to all.
///
/// Each process sends its sums to their owners as soon as they are complete, in pieces, while its backward pass goes on.
/// The owner adds those of neighbouring processes first, as `GroupTree` does: a process holds the sum of neighbouring
/// groups, so that the whole is one tree, and the result does not depend on the number of processes.
final class GradientExchange {
    private let ranks: Ranks
    private let parameters: Parameters
    private let owners: [Int]
    private let precision: ExchangePrecision

    /// A part of a gradient that fits into a message.
    private struct Piece {
        let tensor: Int
        let elements: Range<Int>
    }
    /// Memory for one piece of every other process.
    private struct Slot {
        var piece: Piece?
        var messages: [Ranks.Message] = []
    }

    /// Elements of the pieces of each process's shard.
    private let sizes: [Int]
    private let buffers: [[Tensor]]
    private var slots: [Slot]
    /// Pieces of this process's shard that are complete here, in the order in which the others send them.
    private var pieces: [Piece] = []
    private var taken = 0
    private var sends: [Ranks.Message] = []
    /// Pieces of each tensor that are still to be added.
    private var missing: [Int]
    private var failure: (any Error)?
    /// Called with a tensor whose gradient is that of all processes.
    private var isWhole: (Int) -> Void = { _ in }
    /// The values of all processes that `share` exchanges.
    private let values: UnsafeMutableBufferPointer<Double>

    /// Elements of a piece at most, and of all pieces that are received at a time.
    ///
    /// Across a slow cable, messages of 1 MB both ways took 1.6 times as long as their bytes need, those of 512 KB or less
    /// 1.05 times, and those of 1 MB 1.05 times, too, where UCX did not ask the receiver before it sent.
    private static let mostOfPiece = 1 << 16, mostAtOnce = 1 << 23, slotCount = 16

    /// Plans the memory of the pieces.
    ///
    /// - Parameter losses: number of the objective's loss values.
    init(
        of parameters: Parameters, in precision: ExchangePrecision, shards: Shards, losses: Int, among ranks: Ranks,
        plan: MemoryPlan
    ) {
        self.ranks = ranks
        self.precision = precision
        self.parameters = parameters
        owners = shards.owners
        let most = min(Self.mostOfPiece, Self.mostAtOnce / (Self.slotCount * (ranks.count - 1)))
        var largest = Array(repeating: 1, count: ranks.count)
        for (parameter, owner) in zip(parameters.all, shards.owners) {
            largest[owner] = max(largest[owner], parameter.weight.count)
        }
        sizes = largest.map { min($0, most) }
        let size = sizes[ranks.rank]
        buffers = (0..<Self.slotCount).map { slot in
            ranks.others.map { plan.reserve("gradients of process \($0), part \(slot)", 1, size, .gradients) }
        }
        slots = Array(repeating: Slot(), count: Self.slotCount)
        missing = Array(repeating: 0, count: parameters.all.count)
        values = .allocate(capacity: ranks.count * (losses + parameters.all.count))
        values.initialize(repeating: 0)
    }

    deinit { values.deallocate() }

    /// Whether this process owns the parameter at `index`.
    func owns(_ index: Int) -> Bool { owners[index] == ranks.rank }

    /// Bytes that this process sends in a step: gradients of the others' shards, and the weights of its own to each.
    var bytesSent: Int {
        zip(parameters.all, owners).reduce(0) { sum, each in
            guard each.0.isTrained else { return sum }
            let bytes = each.0.weight.count * MemoryLayout<Float>.size
            return sum + (each.1 == ranks.rank ? bytes * (ranks.count - 1) : precision == .bf16 ? bytes / 2 : bytes)
        }
    }

    /// The gradient of the parameter at `index` is complete in this process. A failure is told by `finish`.
    func complete(_ index: Int) {
        guard failure == nil, let gradient = parameters.all[index].gradient else { return }
        do {
            for start in stride(from: 0, to: gradient.count, by: sizes[owners[index]]) {
                let piece = Piece(tensor: index, elements: start..<min(gradient.count, start + sizes[owners[index]]))
                if owns(index) {
                    pieces.append(piece)
                    missing[index] += 1
                } else {
                    let part = UnsafeMutableBufferPointer(rebasing: gradient.elements[piece.elements])
                    // The gradient is not needed here any more.
                    let bytes = precision == .bf16 ? BFloat16.narrow(part) : UnsafeRawBufferPointer(part)
                    sends.append(try ranks.send(bytes, to: owners[index], .gradients))
                }
            }
            _ = try advance()
        } catch { failure = error }
    }

    /// Receives and adds what has come. Returns whether anything has.
    private func advance() throws -> Bool {
        var hasMoved = false
        for place in slots.indices {
            if let piece = slots[place].piece {
                try slots[place].messages.removeAll { try ranks.isDone($0) }
                guard slots[place].messages.isEmpty else { continue }
                add(piece, buffers[place])
                slots[place].piece = nil
                hasMoved = true
                missing[piece.tensor] -= 1
                if missing[piece.tensor] == 0 { isWhole(piece.tensor) }
            }
            guard taken < pieces.count else { continue }
            let piece = pieces[taken]
            taken += 1
            slots[place].piece = piece
            slots[place].messages = try zip(ranks.others, buffers[place]).map { peer, buffer in
                let part = UnsafeMutableBufferPointer(rebasing: buffer.elements[..<piece.elements.count])
                let bytes = precision == .bf16 ? BFloat16.halves(of: part) : UnsafeMutableRawBufferPointer(part)
                return try ranks.receive(bytes, from: peer, .gradients)
            }
        }
        return hasMoved
    }

    /// Adds the parts of all processes into the gradient, neighbours first.
    private func add(_ piece: Piece, _ buffers: [Tensor]) {
        let count = piece.elements.count
        let own = UnsafeMutableBufferPointer(
            rebasing: parameters.all[piece.tensor].gradient!.elements[piece.elements])
        var parts = buffers.map { UnsafeMutableBufferPointer(rebasing: $0.elements[..<count]) }
        if precision == .bf16 { parts.forEach(BFloat16.widen) }
        parts.insert(own, at: ranks.rank)
        var distance = 1
        while distance < parts.count {
            for first in stride(from: 0, to: parts.count, by: 2 * distance) {
                Addition(sum: parts[first], term: parts[first + distance], precision).runAll()
            }
            distance *= 2
        }
        if ranks.rank != 0 { own.baseAddress!.update(from: parts[0].baseAddress!, count: count) }
    }

    /// Prepares the last micro-batch of a step.
    ///
    /// - Parameter isWhole: called with each parameter of this process whose gradient is that of all processes.
    func begin(isWhole: @escaping (Int) -> Void) {
        self.isWhole = isWhole
        pieces.removeAll(keepingCapacity: true)
        taken = 0
    }

    /// Waits until the gradients of this process's shard are those of all processes, and the others have got theirs.
    ///
    /// - Throws: `Ranks.LostPeer`.
    func finish() throws {
        if let failure { throw failure }
        var pause = Ranks.Pause()
        while true {
            var hasMoved = try advance()
            let before = sends.count
            try sends.removeAll { try ranks.isDone($0) }
            hasMoved = hasMoved || sends.count < before
            let isReceived = taken == pieces.count && slots.allSatisfy { $0.piece == nil }
            if isReceived, sends.isEmpty { return }
            if hasMoved { pause = Ranks.Pause() }
            let waiting = slots.lazy.flatMap(\.messages).first ?? sends.first
            try pause.next(ranks.peerTimeout) { ranks.silent(waiting) }
        }
    }

    /// Adds the losses of all processes, and completes the norm by the squares of the others' shards.
    ///
    /// - Throws: `Ranks.LostPeer`.
    func share(losses: inout [Double], norm: inout GradientNorm) throws {
        let size = losses.count + owners.count
        let own = ranks.rank * size
        for (place, loss) in losses.enumerated() { values[own + place] = loss }
        for index in owners.indices { values[own + losses.count + index] = owns(index) ? norm.squares[index] : 0 }
        try ranks.exchange(values)
        for (index, owner) in owners.enumerated() { norm.squares[index] = values[owner * size + losses.count + index] }
        var distance = 1
        while distance < ranks.count {
            for first in stride(from: 0, to: ranks.count, by: 2 * distance) {
                for place in losses.indices {
                    values[first * size + place] += values[(first + distance) * size + place]
                }
            }
            distance *= 2
        }
        for place in losses.indices { losses[place] = values[place] }
    }

    /// Gives the updated weights of each shard to all processes.
    ///
    /// - Parameter update: updates the parameter at an index, of this process's shard.
    /// - Throws: `Ranks.LostPeer`.
    func update(_ update: (Int) -> Void) throws {
        var messages: [Ranks.Message] = []
        for (index, parameter) in parameters.all.enumerated() where parameter.isTrained && !owns(index) {
            for part in Self.parts(of: parameter.weight) {
                messages.append(try ranks.receive(UnsafeMutableRawBufferPointer(part), from: owners[index], .weights))
            }
        }
        for (index, parameter) in parameters.all.enumerated() where parameter.isTrained && owns(index) {
            update(index)
            for part in Self.parts(of: parameter.weight) {
                for peer in ranks.others {
                    messages.append(try ranks.send(UnsafeRawBufferPointer(part), to: peer, .weights))
                }
            }
        }
        try ranks.wait(for: messages)
    }

    /// The elements of a tensor in pieces.
    private static func parts(of tensor: Tensor) -> [UnsafeMutableBufferPointer<Float>] {
        stride(from: 0, to: tensor.count, by: mostOfPiece).map {
            UnsafeMutableBufferPointer(rebasing: tensor.elements[$0..<min(tensor.count, $0 + mostOfPiece)])
        }
    }
}
