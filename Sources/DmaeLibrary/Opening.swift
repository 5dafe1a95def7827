import CDmae
import Glibc
import Inference
import Interchange
import Models
import Reporting
import Tensors

/// An encoder of the library's caller.
final class OpenEncoder {
    let session: EncoderSession
    let preparation: Preparation
    /// The threads that the session's memory was planned for.
    let threads: Int

    init(_ session: EncoderSession, _ preparation: Preparation, threads: Int) {
        self.session = session
        self.preparation = preparation
        self.threads = threads
    }

    /// The encoder behind `session` of a `dmae_encoder`.
    static func at(_ session: UnsafeMutableRawPointer) -> OpenEncoder {
        Unmanaged<OpenEncoder>.fromOpaque(session).takeUnretainedValue()
    }
}

/// Fields as options of dmae.h.
struct OptionNames: Vocabulary {
    func name(_ field: Field) -> String {
        field == .imageSize ? "image_height × image_width" : field.rawValue.replacing(" ", with: "_")
    }
}

/// DMAE_ISA, which is followed once: weights are packed for the instruction set.
private let instructionSet = Result { try InstructionSet.applyEnvironment() }

/// The threads of an encoder that asks for none: the processors of the process, or OMP_NUM_THREADS if that is less. Its
/// value is a number, or one for each level of nested regions.
private func defaultThreads() -> Int {
    guard let text = dmae_callers_variable("OMP_NUM_THREADS").map({ String(cString: $0) }),
        let first = text.split(separator: ",").first,
        let count = Int(first.drop { $0 == " " }.prefix { $0 != " " }), count >= 1
    else { return Threads.recommended }
    return min(count, Threads.recommended)
}

@_cdecl("dmae_work_open")
public func workOpen(_ opening: UnsafeMutablePointer<dmae_opening>) -> Int32 {
    reporting(opening.pointee.error) {
        let options = opening.pointee.options
        try instructionSet.get()
        let path = try text(opening.pointee.path, "path")
        let prefix = try options.prefix.map { try text($0, "prefix") }
        Threads.unbind()
        let threads = options.threads > 0 ? Int(options.threads) : defaultThreads()
        Threads.count = threads
        try Threads.requireStartable()
        let weights = try ModelWeights(path: path, prefix: prefix)
        var settings = EncoderSession.Settings()
        if options.batch > 0 { settings.batch = Int(options.batch) }
        switch dmae_precision_choice(rawValue: UInt32(options.precision)) {
        case DMAE_BFLOAT16: settings.precision = .bf16
        case DMAE_FASTEST: settings.precision = Precision.bf16.isNative ? .bf16 : .f32
        default: settings.precision = .f32
        }
        settings.pool = pools.first { $0.0 == dmae_pool(rawValue: UInt32(options.pool)) }?.1
        settings.block = options.block >= 0 ? Int(options.block) : nil
        settings.heads = options.heads > 0 ? Int(options.heads) : nil
        if options.image_height > 0 {
            settings.imageSize = ImageSize(height: Int(options.image_height), width: Int(options.image_width))
        }
        let session = try EncoderSession(weights, settings)
        let preparation = Preparation(for: session.configuration, weights.preprocessing)
        describe(
            session, weights, preparation, threads: threads, precision: settings.precision,
            in: &opening.pointee.encoder.pointee)
        opening.pointee.encoder.pointee.session =
            Unmanaged.passRetained(OpenEncoder(session, preparation, threads: threads)).toOpaque()
    }
}

@_cdecl("dmae_work_close")
public func workClose(_ session: UnsafeMutableRawPointer) { Unmanaged<OpenEncoder>.fromOpaque(session).release() }

private let pools: [(dmae_pool, FeaturePool)] = [
    (DMAE_POOL_CLASS, .class), (DMAE_POOL_MEAN, .mean), (DMAE_POOL_TOKENS, .tokens),
]

/// What the C face answers of an encoder.
private func describe(
    _ session: EncoderSession, _ weights: ModelWeights, _ preparation: Preparation, threads: Int, precision: Precision,
    in encoder: inout dmae_encoder
) {
    let configuration = session.configuration
    encoder.image_height = Int32(clamping: configuration.imageHeight)
    encoder.image_width = Int32(clamping: configuration.imageWidth)
    encoder.channels = Int32(clamping: configuration.channels)
    encoder.patch_size = Int32(clamping: configuration.patchSize)
    encoder.width = Int32(clamping: configuration.width)
    encoder.tokens = Int32(clamping: 1 + configuration.patches)
    encoder.pool = Int32(pools.first { $0.1 == session.pool }!.0.rawValue)
    encoder.classes = Int32(clamping: session.classes)
    encoder.threads = Int32(threads)
    encoder.features = session.featureCount
    let names = weights.classNames ?? (0..<session.classes).map(String.init)
    let strings = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>(
        OpaquePointer(calloc(session.classes + 1, MemoryLayout<UnsafeMutablePointer<CChar>?>.size)))
    for index in 0..<session.classes { strings?[index] = strdup(names[index]) }
    encoder.class_names = strings
    var lines = [weights.summary]
    if preparation.isOfPictures {
        let origin = weights.statedPreprocessing.map {
            $0.origin == PictureMetadata.itsTraining ? "as in the training of the weights" : $0.origin
        }
        lines.append("pixels: \(preparation.preprocessing) (\(origin ?? "assumed: the weights say nothing of it"))")
    }
    lines += session.adaptations
    lines.append("precision: \(precision.rawValue)")
    lines += weights.statedPreprocessing?.notes.map { $0.text(in: OptionNames()) } ?? []
    encoder.description = strdup(lines.joined(separator: "\n"))
}

/// The text of an argument.
///
/// - Throws: `Failure.usage` if it is not UTF-8: with replacement characters it would name another file.
private func text(_ argument: UnsafePointer<CChar>, _ name: String) throws -> String {
    guard let text = String(validatingCString: argument) else {
        throw Failure(.usage, "\(name) \(quoted(String(cString: argument))) is not valid UTF-8: give it as UTF-8")
    }
    return text
}

/// Runs `body` and gives the status of the call; the sentence of a failure is written to `error`.
func reporting(_ error: dmae_sentence, _ body: () throws -> Void) -> Int32 {
    let (status, sentence): (Int32, String)
    do {
        try body()
        return Int32(DMAE_OK.rawValue)
    } catch let failure as Failure {
        (status, sentence) = (failure.code.rawValue, failure.message(in: OptionNames()))
    } catch let other {
        (status, sentence) = (Int32(DMAE_FAILURE.rawValue), "\(other)")
    }
    var bytes = Array(sentence.utf8.prefix(error.capacity - 1))
    // A character of several bytes is not cut.
    if bytes.count < sentence.utf8.count {
        while let last = bytes.last, last & 0xC0 == 0x80 { bytes.removeLast() }
        if let last = bytes.last, last >= 0x80 { bytes.removeLast() }
    }
    for (place, byte) in bytes.enumerated() { error.text[place] = CChar(bitPattern: byte) }
    error.text[bytes.count] = 0
    return status
}
