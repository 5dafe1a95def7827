import Reporting

/// The time of a step by operation, as a profiled `dmae bench` prints it. Off unless a benchmark turns it on. Time is
/// measured on the thread that calls the kernels, so it includes waiting for the other threads.
public enum Profile {
    /// The operations; each has a record per part of the model.
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

    /// Calls, seconds, floating-point operations and bytes of operands and results (each counted once) of one operation
    /// in one part of the model.
    public struct Record: Sendable {
        /// The part of the model: "teacher", "student", "decoder", …
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
    /// All records, in the order of their first call.
    public private(set) nonisolated(unsafe) static var records: [Record] = []
    private nonisolated(unsafe) static var isOn = false
    /// Whether kernel calls are recorded instead of run; see `recordCalls`.
    nonisolated(unsafe) static var isRecording = false
    nonisolated(unsafe) static var calls: [KernelCall] = []

    /// Removes all records, and turns measuring on or off.
    public static func reset(measuring: Bool) {
        records = []
        isOn = measuring
    }

    /// Monotonic seconds; 0 if measuring is off.
    @inline(__always)
    static func start() -> Double { isOn ? monotonicSeconds() : 0 }

    @inline(__always)
    static func stop(_ operation: Operation, _ start: Double, flop: Double = 0, bytes: Int = 0) {
        if isOn { record(operation, monotonicSeconds() - start, flop, bytes) }
    }

    /// Runs a kernel, and measures it if measuring is on. While calls are recorded, records the call instead.
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
