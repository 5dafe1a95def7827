extension SafeTensorsFile {
    public func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let entry = try entry(name)
        precondition(destination.count == entry.count, "the destination of \(name) must hold \(entry.count) elements")
        let range = try range(name)
        guard FloatConversion.convert(data(range), entry.type, into: destination) else {
            throw FloatConversion.refusal(entry, path: path)
        }
        releasePages(range)
    }

    public func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        let range = try range(name)
        defer { releasePages(range) }
        return try body(data(range))
    }

    /// The bytes of a tensor as stored, little-endian: the file's memory, at any alignment and valid while `self`
    /// lives.
    public func bytes(_ name: String) throws -> UnsafeRawBufferPointer {
        data(try range(name))
    }

    private func data(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: dataBytes[range])
    }
}
