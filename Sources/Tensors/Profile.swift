import Reporting

/// The time of a step by operation, as a profiled `dmae bench` prints it. Off unless a benchmark asks for it;
/// measured on the thread that calls the kernels, so that waiting for the other threads counts.
public enum Profile {
    /// The kinds of operation that have a record each.
    public enum Operation: String, CaseIterable, Sendable {
        case forward = "matmul, forward"
        case forwardInt8 = "matmul, forward, int8"
        case inputGradient = "matmul, input gradient"
        case weightGradient = "matmul, weight gradient"
        case columnSum = "bias gradient"
        case attention = "attention forward"
        case attentionGradient = "attention backward"
        case layerNorm = "LayerNorm forward"
        case layerNormGradient = "LayerNorm backward"
        case rows = "tokens, losses, copies"
        case optimizer = "AdamW"
    }

    /// Calls, seconds, floating-point operations and bytes of operands and results (each counted once) of one
    /// operation.
    public struct Record: Sendable {
        public let part: String
        public let operation: Operation
        public var calls = 0
        public var seconds = 0.0
        public var flop = 0.0
        public var bytes = 0.0
    }

    /// The part of the model that runs now: "teacher", "student", "decoder", …
    public nonisolated(unsafe) static var part = ""
    /// The linear layer that runs now, or ran last: "blocks.0.attn.qkv".
    public nonisolated(unsafe) static var layer = ""
    /// All there is, in the order first seen.
    public private(set) nonisolated(unsafe) static var records: [Record] = []
    private nonisolated(unsafe) static var isOn = false
    /// Whether kernel calls are noted instead of run; see `recordCalls`.
    nonisolated(unsafe) static var isRecording = false
    nonisolated(unsafe) static var calls: [KernelCall] = []

    /// Forgets all records, and measures from now on if `measuring`.
    public static func reset(measuring: Bool) {
        records = []
        isOn = measuring
    }

    /// Seconds now where something is being measured.
    @inline(__always)
    static func start() -> Double { isOn ? monotonicSeconds() : 0 }

    @inline(__always)
    static func stop(_ operation: Operation, _ start: Double, flop: Double = 0, bytes: Int = 0) {
        if isOn { record(operation, monotonicSeconds() - start, flop, bytes) }
    }

    /// Runs a kernel, and measures it where a benchmark asks for it. While calls are recorded, notes the call instead.
    @inline(__always)
    static func run(
        _ operation: Operation, flop: Double = 0, bytes: Int, _ call: @autoclosure () -> KernelCall.Arguments,
        _ kernel: () -> Void
    ) {
        if isRecording { return note(call(), flop: flop, bytes: bytes) }
        let start = start()
        kernel()
        stop(operation, start, flop: flop, bytes: bytes)
    }

    static func note(_ call: KernelCall.Arguments, flop: Double = 0, bytes: Int) {
        calls.append(KernelCall(part: part, layer: layer, flop: flop, bytes: bytes, arguments: call))
    }

    private static func record(_ operation: Operation, _ seconds: Double, _ flop: Double, _ bytes: Int) {
        let index = records.firstIndex { $0.part == part && $0.operation == operation } ?? records.count
        if index == records.count { records.append(Record(part: part, operation: operation)) }
        records[index].calls += 1
        records[index].seconds += seconds
        records[index].flop += flop
        records[index].bytes += Double(bytes)
    }
}
