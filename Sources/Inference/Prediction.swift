import Glibc

/// One of the classes that an image is most likely of.
public struct Prediction: Equatable, Sendable {
    /// The index of the class.
    public let index: Int
    /// Between 0 and 1: the softmax of the logits.
    public let probability: Double

    /// The `count` most probable classes for `logits`, the most probable first; of equal ones the lower index first.
    public static func best(_ count: Int, of logits: UnsafeBufferPointer<Float>) -> [Prediction] {
        let largest = Double(logits.max() ?? 0)
        var sum = 0.0
        for logit in logits { sum += exp(Double(logit) - largest) }
        var best: [Int] = []
        for index in logits.indices {
            guard best.count < count || logits[index] > logits[best[best.count - 1]] else { continue }
            if best.count == count { best.removeLast() }
            let place = best.firstIndex { logits[index] > logits[$0] } ?? best.count
            best.insert(index, at: place)
        }
        return best.map { Prediction(index: $0, probability: exp(Double(logits[$0]) - largest) / sum) }
    }
}
