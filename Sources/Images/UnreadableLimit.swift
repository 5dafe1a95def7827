import Glibc
import Reporting

/// How many images of a source may be unreadable.
public enum UnreadableLimit {
    /// The fraction of images that is allowed unless a user says otherwise.
    public static let standard = 0.01

    /// Whether `count` unreadable images of `total` are more than the fraction `limit` allows. A limit above 0 always
    /// allows one: a single broken picture among fewer than a hundred is no reason to stop.
    public static func isExceeded(by count: Int, of total: Int, _ limit: Double) -> Bool {
        count > (limit > 0 ? 1 : 0) && Double(count) / Double(total) > limit
    }

    /// A limit that `count` unreadable images of `total` do not exceed, nor twice as many: a number with one digit other
    /// than 0, at most 1.
    public static func sufficient(for count: Int, of total: Int) -> Double {
        let fraction = 2 * Double(max(1, count)) / Double(max(1, total))
        let digits = Int(log10(fraction).rounded(.down)), unit = pow(10, Double(abs(digits)))
        // A quotient of whole numbers is the double nearest to the digit that is shown.
        let value = digits < 0 ? (fraction * unit).rounded(.up) / unit : 1
        return min(1, value)
    }

    /// The failure of too many unreadable images, with what to do about them.
    ///
    /// - Parameter reason: what is wrong, up to the remedy.
    public static func failure(_ reason: Message, _ count: Int, of total: Int) -> Failure {
        let limit = Format.shortest(sufficient(for: count, of: total))
        return Failure(
            .badData, "\(reason); repair or remove them, or raise \(.unreadableLimit), for example to \(limit)",
            unreadable: Failure.UnreadableImages(reason: reason, count: count, total: total))
    }
}
