import Reporting

extension SafeTensorsFile {
    /// Reads the whole file and compares its checksum with the one that `SafeTensorsWriter` stored in it.
    ///
    /// Throws `Failure(.badData)` where the file holds no checksum or another one, that is, where any bit of the header
    /// or the data has changed.
    public func verifyChecksum() throws {
        guard let stored = metadata[SafeTensorsWriter.checksumKey],
            let digits = SafeTensorsWriter.checksumDigits(in: headerBytes)
        else {
            throw Failure(
                .badData, "\(quoted(path: path)) holds no checksum; use a file that dmae wrote as a checkpoint")
        }
        var header = Array(headerBytes)
        header.replaceSubrange(digits, with: [UInt8](repeating: 0x30, count: 16))
        var hash = XXHash64()
        header.withUnsafeBytes { hash.update($0) }
        let piece = 1 << 24
        for start in stride(from: 0, to: dataByteCount, by: piece) {
            let range = start..<min(start + piece, dataByteCount)
            hash.update(UnsafeRawBufferPointer(rebasing: dataBytes[range]))
            releasePages(range)
        }
        let found = hash.text
        guard stored == found else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is damaged: its checksum is \(quoted(stored)) but its content gives \(found); "
                    + "use an older checkpoint"
            )
        }
    }
}
