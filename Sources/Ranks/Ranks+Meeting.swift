import FoundationEssentials
import Glibc
import Reporting

extension Ranks {
    /// Something that must be the same in all processes.
    public struct Fact: Codable, Equatable, Sendable {
        /// In words: "images".
        public let name: String
        public let value: String
        /// What to do where they differ.
        public let remedy: String

        public init(_ name: String, _ value: String, remedy: String) {
            self.name = name
            self.value = value
            self.remedy = remedy
        }
    }

    /// The end of a process whose failure, or a signal, is told by process 0.
    public struct Stopped: Error {
        /// The exit code, that of all.
        public let code: Int32
    }

    /// What a process tells the others at a meeting.
    private struct Word: Codable {
        var host: String
        var code: Int32 = 0
        var text = ""
        var facts: [Fact] = []
    }

    /// Every process calls this at the same place, does its own `work`, and learns whether that of the others has
    /// succeeded and their facts are the same. Alone a process does its work only.
    ///
    /// - Parameter facts: what must be the same in all processes, known after the work.
    /// - Throws: where one has failed: in process 0 a `Failure` that names it, in the others `Stopped`; `LostPeer`.
    public func meet<Result>(
        _ facts: (Result) throws -> [Fact] = { _ in [] }, _ work: () throws -> Result
    ) throws -> Result {
        guard !isAlone else { return try work() }
        let result: Result, own: [Fact]
        do {
            result = try work()
            own = try facts(result)
        } catch let lost as LostPeer { throw lost } catch { throw try told(error) }
        try tell(Word(host: Self.host, facts: own))
        return result
    }

    /// Every process calls this at the same place with a text, and gets those of all, in their order. Throws `LostPeer`.
    public func meet(_ text: String) throws -> [String] {
        let words = try gather(Word(host: Self.host, text: text))
        haveMet = true
        hosts = words.map(\.host)
        return words.map(\.text)
    }

    /// Tells the others of a failure, at the meeting that they wait in.
    ///
    /// - Returns: the error to go on with: in process 0 the failure, in others `Stopped`.
    public func told(_ error: any Error) throws -> any Error {
        let (code, text) = describe(error)
        do { try tell(Word(host: Self.host, code: code, text: text)) } catch let lost as LostPeer { throw lost } catch {
            return isFirst ? error : Stopped(code: code)
        }
        preconditionFailure("a failure was told, and nobody stopped")
    }

    private static var host: String {
        var name = [CChar](repeating: 0, count: 256)
        return gethostname(&name, 255) == 0 ? String(cString: name) : "unknown"
    }

    private func tell(_ own: Word) throws {
        let words = try gather(own)
        haveMet = true
        hosts = words.map(\.host)
        if let failed = words.firstIndex(where: { $0.code != 0 }) {
            let word = words[failed]
            guard isFirst else { throw Stopped(code: word.code) }
            // Where all say the same it is no matter of one process.
            let isCommon = words.allSatisfy { $0.text == word.text }
            throw Failure(
                Failure.Code(rawValue: word.code) ?? .failure,
                "\(failed == 0 || isCommon ? "" : "\(name(of: failed)): ")\(word.text)")
        }
        for (place, fact) in words[0].facts.enumerated() {
            for (peer, word) in words.enumerated() {
                // All run the same code, so they tell of as many things, unless their programs differ, which comes first.
                guard word.facts.indices.contains(place), word.facts[place].value != fact.value else { continue }
                guard isFirst else { throw Stopped(code: Failure.Code.usage.rawValue) }
                throw Failure(
                    .usage,
                    "\(name(of: peer)) has other \(fact.name) than process 0: \(word.facts[place].value), not \(fact.value); \(fact.remedy)"
                )
            }
        }
    }

    /// The values of all processes, in their order. Throws `LostPeer`.
    func gather<Value: Codable>(_ own: Value) throws -> [Value] {
        let texts = try gather([UInt8](JSONEncoder().encode(own)))
        return try texts.map { try JSONDecoder().decode(Value.self, from: Data($0)) }
    }

    /// The bytes of all processes, in their order. Throws `LostPeer`.
    func gather(_ own: [UInt8]) throws -> [[UInt8]] {
        var lengths = [Int](repeating: 0, count: count)
        lengths[rank] = own.count
        try exchange([own.count], into: &lengths, .text)
        var parts = lengths.map { [UInt8](repeating: 0, count: $0) }
        parts[rank] = own
        var messages: [Message] = []
        // Their memory must stay where it is until the messages are done.
        let buffers = lengths.map { UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, $0), alignment: 8) }
        defer { buffers.forEach { $0.deallocate() } }
        buffers[rank].copyBytes(from: own)
        for peer in others {
            messages.append(
                try receive(UnsafeMutableRawBufferPointer(rebasing: buffers[peer][..<lengths[peer]]), from: peer, .text)
            )
            messages.append(
                try send(
                    UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffers[rank])[..<own.count]), to: peer,
                    .text))
        }
        try wait(for: messages)
        for peer in others { parts[peer] = [UInt8](buffers[peer][..<lengths[peer]]) }
        return parts
    }

    /// Sends `own` to all others, and receives as many values from each into its part of `all`.
    private func exchange(_ own: [Int], into all: inout [Int], _ tag: Tag) throws {
        try all.withUnsafeMutableBytes { all in
            try own.withUnsafeBytes { own in
                var messages: [Message] = []
                for peer in others {
                    let part = all[peer * own.count..<(peer + 1) * own.count]
                    messages.append(try receive(UnsafeMutableRawBufferPointer(rebasing: part), from: peer, tag))
                    messages.append(try send(own, to: peer, tag))
                }
                try wait(for: messages)
            }
        }
    }

    /// Sends as many doubles as there are in a part of `all` to each other process: its own part goes to all, and their
    /// parts come. `all` has one part for each process. Throws `LostPeer`.
    public func exchange(_ all: UnsafeMutableBufferPointer<Double>) throws {
        guard !isAlone else { return }
        let size = all.count / count
        func part(_ peer: Int) -> UnsafeMutableRawBufferPointer {
            UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: all[peer * size..<(peer + 1) * size]))
        }
        var messages: [Message] = []
        for peer in others {
            messages.append(try receive(part(peer), from: peer, .sums))
            messages.append(try send(UnsafeRawBufferPointer(part(rank)), to: peer, .sums))
        }
        try wait(for: messages)
    }

    /// The maxima of each value over all processes, which all call it. Throws `LostPeer`.
    public func maxima(_ own: [Double]) throws -> [Double] {
        let size = own.count
        return try withUnsafeTemporaryAllocation(of: Double.self, capacity: count * size) { all in
            all.initialize(repeating: 0)
            for (place, value) in own.enumerated() { all[rank * size + place] = value }
            try exchange(all)
            return (0..<size).map { place in (0..<count).map { all[$0 * size + place] }.max()! }
        }
    }
}
