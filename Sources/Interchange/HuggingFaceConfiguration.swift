import Reporting
import FoundationEssentials
import Glibc
import Models
import Weights

/// The keys of Hugging Face's `config.json` that tell a ViT's or ViTMAE's sizes; nil if absent.
struct HuggingFaceConfiguration: Decodable {
    let numAttentionHeads: Int?
    let decoderNumAttentionHeads: Int?
    let imageSize: ImageSize?
    let maskRatio: Double?
    let normPixLoss: Bool?
    let hiddenAct: String?

    /// Reads `config.json` in the folder of the file at `path`; nil if there is none.
    ///
    /// - Throws: `Failure.badData` if it is not such a configuration.
    init?(beside path: String) throws {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let place = folder + "/config.json"
        var status = stat()
        guard stat(place, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        // Real ones have a few kB, or a few hundred with the labels of a classifier.
        guard status.st_size <= 16_000_000 else {
            throw Failure(.badData, "\(place): has \(status.st_size) bytes, no configuration has")
        }
        let data = Data(try MappedFile.contents(place, wanted: "a configuration"))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { self = try decoder.decode(Self.self, from: data) } catch {
            throw Failure(
                .badData, "\(place): is not the configuration of a Hugging Face model; download it again, or remove it")
        }
    }
}
