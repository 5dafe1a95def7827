import Reporting
import FoundationEssentials
import Glibc
import Models
import Weights

/// A JSON file in the folder of a file of weights, as transformers and timm write them.
enum ConfigurationFile {
    /// The content of the file called `name`; nil if there is none.
    ///
    /// - Throws: `Failure` if it is too large, or cannot be read.
    static func data(_ name: String = "config.json", beside path: String) throws -> Data? {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let place = folder + "/" + name
        let found = try fileStatus(place)
        if found == nil, try fileStatus(place, followsLinks: false) != nil {
            throw Failure(.badData, "\(place): is a link to a file that is not there; download it again, or remove it")
        }
        guard let status = found, status.st_mode & S_IFMT == S_IFREG else { return nil }
        // Real ones have a few kB, or a few hundred with the labels of a classifier.
        guard status.st_size <= 16_000_000 else {
            throw Failure(.badData, "\(place): has \(status.st_size) bytes, no configuration has")
        }
        return Data(try MappedFile.contents(place, wanted: "a configuration"))
    }
}

/// The keys of Hugging Face's `config.json` that tell a ViT's or ViTMAE's sizes and classes; nil if absent.
struct HuggingFaceConfiguration: Decodable {
    let numAttentionHeads: Int?
    let decoderNumAttentionHeads: Int?
    let imageSize: ImageSize?
    let maskRatio: Double?
    let normPixLoss: Bool?
    let hiddenAct: String?
    let id2label: Labels?

    /// The names of classes by index, in decimal digits.
    struct Labels: Decodable {
        let byIndex: [String: Label]

        /// A name: a text, or a number that stands for one.
        struct Label: Decodable {
            let text: String

            init(from decoder: any Swift.Decoder) throws {
                let container = try decoder.singleValueContainer()
                if let number = try? container.decode(Int.self) {
                    text = String(number)
                } else {
                    text = try container.decode(String.self)
                }
            }
        }

        init(from decoder: any Swift.Decoder) throws {
            byIndex = try decoder.singleValueContainer().decode([String: Label].self)
        }

        /// The names in order; nil if they are the placeholders LABEL_0, LABEL_1 and so on.
        ///
        /// - Throws: `Failure.badData` if an index is left out.
        func names(_ path: String) throws -> [String]? {
            let names = try (0..<byIndex.count).map { index in
                guard let label = byIndex[String(index)] else {
                    throw Failure(
                        .badData,
                        "\(path): id2label in config.json has \(byIndex.count) names but none of class \(index); "
                            + "download it again")
                }
                return label.text
            }
            return names.enumerated().allSatisfy { $1 == "LABEL_\($0)" } ? nil : names
        }
    }

    /// Reads `config.json` in the folder of the file at `path`; nil if there is none.
    ///
    /// - Throws: `Failure.badData` if it is not such a configuration.
    init?(beside path: String) throws {
        guard let data = try ConfigurationFile.data(beside: path) else { return nil }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { self = try decoder.decode(Self.self, from: data) } catch {
            let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./"
            throw Failure(
                .badData,
                "\(folder)config.json: is not the configuration of a Hugging Face model; download it again, or remove it"
            )
        }
    }
}
