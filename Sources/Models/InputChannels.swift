/// Adapts a patch projection to images with a different number of channels.
///
/// The rule is timm's (`adapt_input_conv` in timm/models/_manipulate.py): for one channel the weights of all channels
/// are summed; for more, they are repeated cyclically and scaled by old / new. A grey image in equal channels thus
/// keeps its embedding if `new` is 1 or a multiple of `old`.
public enum InputChannels {
    /// The adaptation from `old` to `new` channels, in words for a person.
    public static func rule(from old: Int, to new: Int) -> String {
        new == 1 ? "summed" : "repeated and scaled by \(old)/\(new)"
    }

    /// Fills target[outputs, new, area] from source[outputs, old, area], `area` being the pixels of a patch. Channels
    /// are summed in order.
    public static func adapt(
        _ source: UnsafeBufferPointer<Float>, channels old: Int, into target: UnsafeMutableBufferPointer<Float>,
        channels new: Int, outputs: Int, area: Int
    ) {
        precondition(source.count == outputs * old * area && target.count == outputs * new * area)
        let scale = Float(old) / Float(new)
        for output in 0..<outputs {
            for pixel in 0..<area {
                if new == 1 {
                    var sum: Float = 0
                    for channel in 0..<old { sum += source[(output * old + channel) * area + pixel] }
                    target[output * area + pixel] = sum
                } else {
                    for channel in 0..<new {
                        let value = source[(output * old + channel % old) * area + pixel]
                        target[(output * new + channel) * area + pixel] = old == new ? value : value * scale
                    }
                }
            }
        }
    }
}
