import CDmae
import Images
import Inference
import Models
import Tensors

/// How the caller's pictures become the input of an encoder.
struct Preparation {
    let preprocessing: Preprocessing
    private let augmentation: Augmentation?
    /// Floats of an image.
    let imageCount: Int

    /// Whether the encoder takes pictures: its channels are 1 or 3.
    var isOfPictures: Bool { augmentation != nil }

    init(for encoder: EncoderConfiguration, _ preprocessing: Preprocessing) {
        self.preprocessing = preprocessing
        imageCount = encoder.channels * encoder.imageHeight * encoder.imageWidth
        augmentation =
            encoder.channels == 1 || encoder.channels == 3
            ? Augmentation(
                width: encoder.imageWidth, height: encoder.imageHeight, channels: encoder.channels, framing: .centre,
                preprocessing: preprocessing) : nil
    }

    /// Writes `pictures`, resized, cropped and normalised, one after another to `images`.
    func prepare(_ pictures: UnsafeBufferPointer<dmae_picture>, into images: UnsafeMutablePointer<Float>) {
        guard let augmentation else { preconditionFailure("the C face takes no pictures for such an encoder") }
        PictureRows(pictures: pictures, augmentation: augmentation, images: images, imageCount: imageCount)
            .runAll(pictures.count)
    }
}

/// Pictures, each prepared by one thread.
private struct PictureRows: ParallelRows {
    let pictures: UnsafeBufferPointer<dmae_picture>
    let augmentation: Augmentation
    let images: UnsafeMutablePointer<Float>
    let imageCount: Int

    func run(_ range: Range<Int>) {
        for index in range {
            let sample = augmentation.apply(to: Pixels(pictures[index]), seed: 0, epoch: 0, index: 0)
            augmentation.normalisation.write(sample, to: images + index * imageCount)
        }
    }
}

extension Pixels {
    /// A copy of the caller's picture, its rows without padding.
    fileprivate init(_ picture: dmae_picture) {
        let (width, height, channels) = (Int(picture.width), Int(picture.height), Int(picture.channels))
        let row = width * channels, stride = picture.stride == 0 ? row : picture.stride
        self.init(
            width: width, height: height, channels: channels,
            bytes: [UInt8](unsafeUninitializedCapacity: row * height) { bytes, count in
                for y in 0..<height {
                    (bytes.baseAddress! + y * row).update(from: picture.pixels + y * stride, count: row)
                }
                count = row * height
            })
    }
}

@_cdecl("dmae_work_encode")
public func workEncode(_ encoding: UnsafeMutablePointer<dmae_encoding>) -> Int32 {
    let request = encoding.pointee
    return reporting(request.error) {
        let encoder = OpenEncoder.at(request.encoder.pointee.session), preparation = encoder.preparation
        Threads.count = encoder.threads
        let pictures = request.pictures.map { UnsafeBufferPointer(start: $0, count: request.count) }
        func prepare(_ range: Range<Int>, _ target: UnsafeMutablePointer<Float>) {
            if let pictures {
                preparation.prepare(UnsafeBufferPointer(rebasing: pictures[range]), into: target)
            } else {
                target.update(
                    from: request.images + range.lowerBound * preparation.imageCount,
                    count: range.count * preparation.imageCount)
            }
        }
        switch request.result {
        case DMAE_RESULT_IMAGES: prepare(0..<request.count, request.output)
        case DMAE_RESULT_LOGITS:
            try encoder.session.run(.logits, request.count, into: request.output, prepare: prepare)
        default: try encoder.session.run(.features, request.count, into: request.output, prepare: prepare)
        }
    }
}

@_cdecl("dmae_work_top")
public func workTop(
    _ logits: UnsafePointer<Float>, _ classes: Int, _ best: Int, _ predictions: UnsafeMutablePointer<dmae_prediction>
) {
    let found = Prediction.best(best, of: UnsafeBufferPointer(start: logits, count: classes))
    for (place, prediction) in found.enumerated() {
        predictions[place] = dmae_prediction(index: Int32(prediction.index), probability: prediction.probability)
    }
}
