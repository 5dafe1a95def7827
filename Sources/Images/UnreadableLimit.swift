/// How many images of a source may be unreadable.
public enum UnreadableLimit {
    /// The fraction of images that is allowed unless a user says otherwise.
    public static let standard = 0.01

    /// Whether `count` unreadable images of `total` are more than the fraction `limit` allows. A limit above 0 always
    /// allows one: a single broken picture among fewer than a hundred is no reason to stop.
    public static func isExceeded(by count: Int, of total: Int, _ limit: Double) -> Bool {
        count > (limit > 0 ? 1 : 0) && Double(count) / Double(total) > limit
    }
}
