import Glibc
import Reporting

extension Ranks {
    /// Where every process looks, between two micro-batches, whether one of them stops.
    ///
    /// - Parameters:
    ///   - request: the name of the signal that asks this process to stop; nil without one.
    ///   - dropsStep: whether this process cannot finish its micro-batch.
    /// - Returns: the first request of all processes, and whether one of them cannot finish.
    /// - Throws: where one has failed, what `failed` returns there: `Failure` or `Stopped`; `LostPeer`.
    public func poll(_ request: String?, dropsStep: Bool = false) throws -> (signal: String, dropsStep: Bool)? {
        guard !isAlone else { return request.map { ($0, dropsStep) } }
        let slips = try pass(Slip(request == nil ? .goOn : .stop, request ?? "", code: dropsStep ? 1 : 0))
        if slips.contains(where: { $0.kind == .failure }) { throw try hear() }
        let isDropped = slips.contains { $0.code != 0 }
        // Gradients may be under way, for which nobody waits any more.
        if isDropped { leavesMessages = true }
        return slips.first { $0.kind == .stop }.map { ($0.text, isDropped) }
    }

    /// Tells the others, who poll, that this process has failed. Returns the error to go on with.
    public func failed(_ error: any Error) throws -> any Error {
        guard !isAlone, !(error is LostPeer), !(error is Stopped) else { return error }
        _ = try pass(Slip(.failure, ""))
        return try told(error)
    }

    /// Learns from another process why it has failed.
    private func hear() throws -> any Error {
        do { try meet {} } catch let lost as LostPeer { throw lost } catch { return error }
        preconditionFailure("a process has failed and does not say why")
    }

    /// A message of fixed size.
    struct Slip {
        enum Kind: Int32 {
            case goOn, stop, failure
            /// Process 0 asks the others for their requests.
            case poll
            /// The end of what process 0 does alone: with the exit code, 0 to go on.
            case end
            /// What process 0 wants done, in the words of whoever serves.
            case order
        }
        static let bytes = 64
        static let textBytes = 36
        var kind: Kind
        var code: Int32 = 0
        var first: Int64 = 0
        var second: Int64 = 0
        var text: String

        init(_ kind: Kind, _ text: String = "", code: Int32 = 0, first: Int64 = 0, second: Int64 = 0) {
            (self.kind, self.text, self.code, self.first, self.second) = (kind, text, code, first, second)
        }

        init(_ bytes: UnsafeRawBufferPointer) {
            kind = Kind(rawValue: bytes.load(as: Int32.self))!
            code = bytes.load(fromByteOffset: 4, as: Int32.self)
            first = bytes.load(fromByteOffset: 8, as: Int64.self)
            second = bytes.load(fromByteOffset: 16, as: Int64.self)
            let length = Int(bytes.load(fromByteOffset: 24, as: Int32.self))
            text = String(decoding: bytes[28..<28 + length], as: UTF8.self)
        }

        func write(to bytes: UnsafeMutableRawBufferPointer) {
            bytes.storeBytes(of: kind.rawValue, as: Int32.self)
            bytes.storeBytes(of: code, toByteOffset: 4, as: Int32.self)
            bytes.storeBytes(of: first, toByteOffset: 8, as: Int64.self)
            bytes.storeBytes(of: second, toByteOffset: 16, as: Int64.self)
            let utf8 = Array(text.utf8.prefix(Self.textBytes))
            bytes.storeBytes(of: Int32(utf8.count), toByteOffset: 24, as: Int32.self)
            for (place, byte) in utf8.enumerated() { bytes[28 + place] = byte }
        }
    }

    /// Gives `own` to all others, and returns the slips of all.
    private func pass(_ own: Slip) throws -> [Slip] {
        try withSlips(count) { bytes in
            own.write(to: bytes(rank))
            var messages: [Message] = []
            for peer in others {
                messages.append(try receive(bytes(peer), from: peer, .poll))
                messages.append(try send(UnsafeRawBufferPointer(bytes(rank)), to: peer, .poll))
            }
            try wait(for: messages)
            return (0..<count).map { Slip(UnsafeRawBufferPointer(bytes($0))) }
        }
    }

    private func withSlips<Result>(
        _ count: Int, _ body: ((Int) -> UnsafeMutableRawBufferPointer) throws -> Result
    ) rethrows -> Result {
        try withUnsafeTemporaryAllocation(byteCount: count * Slip.bytes, alignment: 8) { all in
            for place in all.indices { all[place] = 0 }
            return try body { UnsafeMutableRawBufferPointer(rebasing: all[$0 * Slip.bytes..<($0 + 1) * Slip.bytes]) }
        }
    }

    // MARK: What process 0 does alone

    /// Process 0 does `work` that belongs to it alone, while the others `serve`.
    ///
    /// - Parameter code: the exit code of the others after the work, where they end with it; 0 to go on.
    /// - Throws: what `work` throws, after the others were told to end; `LostPeer`.
    public func lead<Result>(code: (Result) -> Int32 = { _ in 0 }, _ work: () throws -> Result) throws -> Result {
        guard !isAlone else { return try work() }
        precondition(isFirst, "process 0 leads")
        let result: Result
        do { result = try work() } catch let lost as LostPeer { throw lost } catch {
            try order(Slip(.end, code: describe(error).code), others)
            throw error
        }
        try order(Slip(.end, code: code(result)), others)
        return result
    }

    /// Process 0, within `lead`, asks the others for their requests.
    ///
    /// - Returns: its own `request`, else the first one of the others.
    public func ask(_ request: String?) throws -> String? {
        guard !isAlone else { return request }
        try order(Slip(.poll), others)
        return try withSlips(count) { bytes in
            try wait(for: others.map { try receive(bytes($0), from: $0, .poll) })
            let slips = others.map { Slip(UnsafeRawBufferPointer(bytes($0))) }
            return request ?? slips.first { $0.kind == .stop }?.text
        }
    }

    /// As `ask`, but at most once a second: during long work, which the others would otherwise take for silence.
    public func askAtTimes(_ request: String?) throws -> String? {
        guard !isAlone, monotonicSeconds() - lastAsked > 1 else { return request }
        defer { lastAsked = monotonicSeconds() }
        return try ask(request)
    }

    /// Process 0, within `lead`, has a process do what `word` says with two numbers.
    public func order(_ word: String, _ first: Int, _ second: Int, of peers: [Int]) throws {
        try order(Slip(.order, word, first: Int64(first), second: Int64(second)), peers)
    }

    private func order(_ slip: Slip, _ peers: [Int]) throws {
        try withSlips(1) { bytes in
            slip.write(to: bytes(0))
            try wait(for: peers.map { try send(UnsafeRawBufferPointer(bytes(0)), to: $0, .command) })
        }
    }

    /// The other processes wait here while process 0 leads, and do what it orders.
    ///
    /// - Parameters:
    ///   - request: the name of the signal that asks this process to stop; nil without one.
    ///   - follow: does what an order says: its word and numbers.
    /// - Throws: `Stopped` where the run ends; `LostPeer`.
    public func serve(
        request: @escaping () -> String? = { nil },
        _ follow: (_ word: String, _ first: Int, _ second: Int) throws -> Void = { _, _, _ in }
    ) throws {
        precondition(!isFirst, "process 0 leads")
        let outer = self.request
        self.request = request
        defer { self.request = outer }
        while let order = try nextOrder() { try follow(order.text, Int(order.first), Int(order.second)) }
    }

    /// Waits for the next order of process 0, and answers its questions meanwhile; nil where it has ended what it did alone.
    ///
    /// - Throws: `Stopped` where the run ends; `LostPeer`.
    func nextOrder() throws -> Slip? {
        while true {
            let slip = try withSlips(1) { bytes in
                try wait(for: [try receive(bytes(0), from: 0, .command)])
                return Slip(UnsafeRawBufferPointer(bytes(0)))
            }
            switch slip.kind {
            case .end:
                guard slip.code == 0 else { throw Stopped(code: slip.code) }
                return nil
            case .poll:
                let signal = request()
                try withSlips(1) { bytes in
                    Slip(signal == nil ? .goOn : .stop, signal ?? "").write(to: bytes(0))
                    try wait(for: [try send(UnsafeRawBufferPointer(bytes(0)), to: 0, .poll)])
                }
            case .order: return slip
            case .goOn, .stop, .failure: preconditionFailure("an order of a poll")
            }
        }
    }

    /// Sends the values of a tensor of the state from process 0 to others, or back. Throws `LostPeer`.
    public func send(_ floats: UnsafeMutableBufferPointer<Float>, to peers: [Int]) throws {
        try wait(for: peers.map { try send(UnsafeRawBufferPointer(floats), to: $0, .state) })
    }

    /// Receives as many values as `floats` has of a tensor of the state. Throws `LostPeer`.
    public func receive(_ floats: UnsafeMutableBufferPointer<Float>, from peer: Int) throws {
        try wait(for: [try receive(UnsafeMutableRawBufferPointer(floats), from: peer, .state)])
    }
}
