import Reporting

/// Formats of PyTorch before 1.6 and others that are mistaken for its files. They are recognised and refused, with the
/// command that converts them.
enum OlderTorchFile {
    case pickled
    case tar
    case plainPickle

    init?(_ bytes: UnsafeRawBufferPointer) {
        // A pickle of the number 0x1950a86a20f9469cfc6c.
        let magic: [UInt8] = [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
        if bytes.count >= 14, bytes[0] == 0x80, bytes[2...].starts(with: magic) {
            self = .pickled
        } else if bytes.count >= 263, bytes[257...].starts(with: Array("ustar".utf8)) {
            self = .tar
        } else if bytes.count >= 3, bytes[0] == 0x80, (2...5).contains(bytes[1]), bytes[2] != 0,
            bytes.count < 8 || bytes.word64(0) > UInt64(SafeTensorsHeader.maximumLength)
        {
            self = .plainPickle
        } else {
            return nil
        }
    }

    func refusal(path: String) -> Failure {
        let what =
            switch self {
            case .pickled: "was saved by PyTorch before 1.6 or in its old format"
            case .tar: "is a tar archive, perhaps saved by PyTorch before 0.4"
            case .plainPickle: "is a pickle by itself, without the archive that torch.save puts around it"
            }
        let command = Self.command(path: path, weightsOnly: self == .pickled)
        return Failure(
            .badData,
            "\(quoted(path: path)) \(what); write it again with: \(command)"
                + (self == .pickled ? "" : " (this executes code from the file: do it only if you trust it)"))
    }

    /// The shell command that saves the file at `path` again, as an archive of the current format.
    static func command(path: String, weightsOnly: Bool) -> String {
        let plain = path.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7A).contains($0 | 0x20)
                || [0x2B, 0x2D, 0x2E, 0x2F, 0x5F].contains($0)
        }
        let word =
            plain
            ? path : "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
        let load = "torch.load(sys.argv[1], map_location='cpu', weights_only=\(weightsOnly ? "True" : "False"))"
        return "python3 -c \"import sys, torch; torch.save(\(load), sys.argv[2])\" \(word) new.pth"
    }
}
