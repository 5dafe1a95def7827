/// The names of a run's checkpoints: `checkpoint-00001234.safetensors`.
package enum CheckpointName {
    /// The step in the name of a checkpoint; nil for any other name.
    package static func step(of name: String) -> Int? {
        guard name.hasPrefix("checkpoint-"), name.hasSuffix(".safetensors") else { return nil }
        let digits = name.dropFirst("checkpoint-".count).dropLast(".safetensors".count)
        guard digits.count >= 8, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        // A step is padded to eight digits, never to more.
        return digits.count == 8 || digits.first != "0" ? Int(digits) : nil
    }

    /// The newest checkpoint among `names`, if these are of a run that has not finished: checkpoints, and weights of other
    /// moments than the last.
    static func newest(of names: [String]) -> String? {
        let others = ["best.safetensors", "raw.safetensors"]
        guard names.allSatisfy({ step(of: $0) != nil || others.contains($0) }) else { return nil }
        return names.filter { step(of: $0) != nil }.max { step(of: $0)! < step(of: $1)! }
    }
}
