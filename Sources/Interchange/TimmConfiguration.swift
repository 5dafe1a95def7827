import FoundationEssentials

/// The keys of timm's `config.json` that tell of the classes; nil if absent.
struct TimmConfiguration: Decodable {
    /// The model's name in timm.
    let architecture: String
    let numClasses: Int?
    let labelNames: [String]?
    /// `token` or `avg`: what the head reads.
    let globalPool: String?
    let pretrainedCfg: Preparation?

    /// How timm prepares pictures for the weights.
    struct Preparation: Decodable {
        let mean, std: [Float]?
    }

    /// Reads `config.json` in the folder of the file at `path`; nil if there is none, or it is not timm's.
    static func read(beside path: String) throws -> TimmConfiguration? {
        guard let data = try ConfigurationFile.data(beside: path) else { return nil }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(TimmConfiguration.self, from: data)
    }
}
