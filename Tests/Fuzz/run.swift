import Glibc
import Models
import Reporting
import Training

private let folder = makeFolder()
private let terms = [
    LossTerm(key: "loss", name: "loss", meaning: ""),
    LossTerm(key: "loss_reconstruction", name: "reconstruction", meaning: ""),
    LossTerm(key: "loss_align", name: "alignment", meaning: "", listCount: 1),
]

/// Reads any bytes as what a run finds in its folder when it is resumed: after a first byte of 0 as its configuration,
/// otherwise as a log that is continued after the step of that number.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count > 0, let start else { return 0 }
    let content = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    if start[0] == 0 {
        write(content, to: "\(folder)/configuration.json")
        attempt { _ = try RunDirectory.configuration(in: folder) }
    } else {
        continueLog(content, after: Int(start[0]))
    }
    return 0
}

private func continueLog(_ content: UnsafeRawBufferPointer, after step: Int) {
    let path = "\(folder)/log.jsonl"
    write(content, to: path)
    attempt {
        let log = try RunLog(path: path, after: step, terms: terms)
        try log.append(
            StepRecord(
                step: step + 1, epoch: 1, losses: [3, 1, 2], learningRate: 0.5, gradientNorm: 1, imagesPerSecond: 10))
        let kept = read(path)
        // What remains is whole: to continue it once more changes nothing.
        _ = try RunLog(path: path, after: step + 1, terms: terms)
        precondition(read(path) == kept, "a second start changes the log")
        let summary = try RunSummary(log: path, terms: terms)
        precondition(!summary.rows.isEmpty, "the step that was logged is not read")
    }
    unlink("\(folder)/log.damaged-\(step).jsonl")
}
