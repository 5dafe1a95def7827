import Reporting
import Glibc
import Tensors
import Weights

/// The checkpoints of a run: `checkpoint-00001234.safetensors`, named by the optimiser step they were taken after.
///
/// A checkpoint holds the weights under their own names, the optimiser's state under `optimizer.first_moment.NAME` and
/// `optimizer.second_moment.NAME` (AdamW) or `optimizer.momentum.NAME` (LARS), an average of the weights under
/// `average.NAME`, the summed gradients of an unfinished step under `gradient.NAME`, the run's strings in the metadata,
/// and a checksum of the whole file.
public struct CheckpointStore: Sendable {
    /// Prefixes of tensor names: AdamW's first and second moments, LARS's momentum, averages of weights, and summed
    /// gradients of an unfinished step.
    public static let firstMomentPrefix = prefix(of: .firstMoment)
    public static let secondMomentPrefix = prefix(of: .secondMoment)
    public static let momentumPrefix = prefix(of: .momentum)
    public static let averagePrefix = "average."
    public static let gradientPrefix = "gradient."
    static func prefix(of kind: OptimizerState.Kind) -> String { "optimizer.\(kind.rawValue)." }
    /// The metadata key of the step, written by the store.
    public static let stepKey = "dmae.step"

    /// A tensor to be written.
    public struct Tensor {
        let source: TensorSource

        /// A tensor in memory: one value per element of `shape`.
        public init(name: String, shape: [Int], floats: UnsafeBufferPointer<Float>) {
            precondition(
                shape.reduce(1, *) == floats.count, "tensor \(name) of shape \(shape) has \(floats.count) values")
            source = TensorSource(name: name, type: .f32, shape: shape) { try $0(UnsafeRawBufferPointer(floats)) }
        }

        /// A tensor whose bytes are produced twice: for the checksum, and for the file.
        init(_ source: TensorSource) { self.source = source }
    }

    /// A checkpoint whose checksum is right.
    public struct Checkpoint: Sendable {
        /// Optimiser steps done.
        public let step: Int
        /// The open file.
        public let file: SafeTensorsFile
    }

    /// The folder of the checkpoints.
    public let directory: String
    /// Number of checkpoints that are kept, at least 1.
    public let keep: Int

    /// The store in `directory`. Nothing is read or written yet: a reader may have a store while a run writes.
    public init(directory: String, keep: Int) {
        precondition(keep >= 1, "at least one checkpoint is kept")
        self.directory = directory
        self.keep = keep
    }

    /// The path of the checkpoint of `step`.
    public func path(step: Int) -> String {
        let digits = String(step)
        return "\(directory)/checkpoint-\(String(repeating: "0", count: max(0, 8 - digits.count)))\(digits).safetensors"
    }

    /// The steps of all checkpoints, in ascending order. Throws `Failure(.inputOutput)` if the folder cannot be listed.
    public func steps() throws -> [Int] {
        try RunDirectory.names(in: directory).compactMap(Self.step(of:)).sorted()
    }

    /// Writes the checkpoint of `step`, then removes the oldest ones beyond `keep`, and returns its path.
    ///
    /// On return the whole file is on the disk under its name. After a failure the older checkpoints are still there.
    /// Throws `Failure(.inputOutput)`.
    @discardableResult
    public func write(step: Int, tensors: [Tensor], metadata: [String: String]) throws -> String {
        precondition(step >= 0, "a step counts from 0")
        var writer = SafeTensorsWriter(metadata: metadata)
        writer.metadata[Self.stepKey] = String(step)
        for tensor in tensors { writer.add(tensor.source) }
        let path = path(step: step)
        try writer.write(to: path, checksummed: true, replacesLink: true)
        for old in try steps().filter({ $0 < step }).dropLast(keep - 1) { unlink(self.path(step: old)) }
        return path
    }

    /// The newest checkpoint whose checksum is right; nil if there is none.
    ///
    /// Damaged checkpoints are skipped; `report` is called with a sentence for each. Throws `Failure(.inputOutput)` if
    /// the folder cannot be listed or a checkpoint cannot be read: after a temporary disk error a run must not resume
    /// from an older state.
    public func newestValid(report: (String) -> Void) throws -> Checkpoint? {
        for step in try steps().reversed() {
            do {
                let checkpoint = try Self.open(path(step: step))
                guard checkpoint.step == step else {
                    report(
                        "skipping \(quoted(path: path(step: step))): it is the checkpoint of step \(checkpoint.step), "
                            + "renamed"
                    )
                    continue
                }
                return checkpoint
            } catch let failure as Failure where failure.code == .badData {
                report("skipping a checkpoint: \(failure.message)")
            }
        }
        return nil
    }

    /// Renames the checkpoints of `step` and of later steps, so that no resumed run takes one of them for its newest: a
    /// run that goes back to an older checkpoint will not reproduce them. Returns the new paths; checkpoints that were
    /// set aside earlier are not overwritten.
    ///
    /// Throws `Failure(.inputOutput)`.
    public func setAside(from step: Int) throws -> [String] {
        let aside = try steps().filter { $0 >= step }.map { later in
            let from = path(step: later)
            var to = from + Self.abandonedMark, number = 1
            // No other process writes here: the folder is locked.
            while try fileStatus(to, followsLinks: false) != nil {
                number += 1
                to = "\(from)\(Self.abandonedMark)-\(number)"
            }
            guard rename(from, to) == 0 else {
                throw Failure.system("cannot rename \(quoted(path: from))", errno, .writing)
            }
            return to
        }
        if !aside.isEmpty { try AtomicFile.synchronizeFolder(of: aside[0]) }
        return aside
    }

    /// The suffix of a checkpoint's name after it is set aside.
    static let abandonedMark = ".abandoned"

    /// Opens one checkpoint and verifies every byte of it.
    ///
    /// Throws `Failure`: `.inputOutput` if it cannot be read, `.badData` if it is damaged or no checkpoint.
    public static func open(_ path: String) throws -> Checkpoint {
        let file = try SafeTensorsFile(path: path)
        try file.verifyChecksum()
        guard let step = file.metadata[stepKey].flatMap({ Int($0) }), step >= 0 else {
            throw Failure(.badData, "\(quoted(path: path)) holds no step number; use a checkpoint that dmae wrote")
        }
        return Checkpoint(step: step, file: file)
    }

    /// The step in the name of a checkpoint; nil for any other name.
    static func step(of name: String) -> Int? { CheckpointName.step(of: name) }
}
