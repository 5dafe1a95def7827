import Images
import Inference
import Reporting

extension ImageCensus {
    /// The census as text of at most 80 columns, where names are short.
    ///
    /// - Parameter reading: how the pictures were read.
    func text(reading: PictureReading) -> String {
        var lines = [("images", Format.grouped(count))]
        if let fewest = classes.min(by: { $0.images < $1.images }),
            let most = classes.max(by: { $0.images < $1.images })
        {
            lines.append(
                (
                    "classes",
                    "\(Format.grouped(classes.count)): fewest images \(Format.grouped(fewest.images)) (\(escaped(fewest.name))), most "
                        + "\(Format.grouped(most.images)) (\(escaped(most.name)))"
                ))
        }
        if !formats.isEmpty {
            lines.append(
                ("formats", formats.map { "\($0.name) \(Format.grouped($0.images))" }.joined(separator: ", ")))
        }
        if let sizes {
            let named = [("smallest", sizes.smallest), ("median", sizes.median), ("largest", sizes.largest)]
            lines.append(("sizes", named.map { "\($0) \($1.width)×\($1.height)" }.joined(separator: ", ")))
            lines.append(("files", Format.bytes(fileBytes)))
        }
        let isExceeded = UnreadableLimit.isExceeded(by: unreadable.count, of: count, UnreadableLimit.standard)
        lines.append(
            (
                "unreadable",
                of(
                    unreadable.count,
                    isExceeded
                        ? "more than the \(Format.shortest(UnreadableLimit.standard)) of all that a run allows "
                            + "(--unreadable-limit)" : "")
            ))
        lines.append(("transparent", of(transparent, "composited over \(reading.background)")))
        lines.append(
            (
                "16-bit",
                of(
                    sixteenBit,
                    clipped.isEmpty
                        ? ""
                        : "\(Format.grouped(clipped.count)) of them grey that becomes white (--grey16 scale keeps it)")
            ))
        lines.append(("oriented", of(oriented, reading.appliesOrientation ? "turned upright" : "read as stored")))
        if wrongChecksums > 0 { lines.append(("damaged", of(wrongChecksums, "wrong checksums, used as they are"))) }
        lines.append(("copies", copiesText))
        if let imagesPerSecond {
            let epoch = Format.duration(Double(count) / imagesPerSecond)
            lines.append(
                (
                    "decoding",
                    "\(Format.fixed(imagesPerSecond, 0)) images/s a worker, cropped to \(Self.cropSide)×\(Self.cropSide); "
                        + "an epoch takes one worker \(epoch)"
                ))
        }
        var parts = [Format.lines(lines)]
        if !shortSides.isEmpty { parts.append(histogram) }
        if !unreadable.isEmpty { parts.append(listed("unreadable", unreadable.map { $0.reason.text(in: Flags()) })) }
        if !clipped.isEmpty { parts.append(listed("grey that becomes white", clipped)) }
        if !copies.isEmpty {
            parts.append(
                listed(
                    "copies",
                    copies.map {
                        $0.paths.joined(separator: " = ") + ($0.isAcrossClasses ? " (different classes)" : "")
                    }
                ))
        }
        return parts.joined(separator: "\n\n")
    }

    /// "12, composited over white", or "0".
    private func of(_ images: Int, _ remark: String) -> String {
        images == 0 || remark.isEmpty ? Format.grouped(images) : "\(Format.grouped(images)), \(remark)"
    }

    private var copiesText: String {
        let surplus = copies.reduce(0) { $0 + $1.paths.count - 1 }
        let across = copies.count { $0.isAcrossClasses }
        let remark = across == 0 ? "" : "; \(Format.counted(across, "group")) in different classes"
        return Format.grouped(surplus) + remark
    }

    /// The short sides of the pictures, with bars.
    private var histogram: String {
        let most = shortSides.map(\.images).max() ?? 1
        let rows = shortSides.map { range in
            ["\(range.sides.lowerBound)–\(range.sides.upperBound)", Format.grouped(range.images)]
        }
        let bars = [""] + shortSides.map { String(repeating: "▒", count: ($0.images * 40 + most - 1) / most) }
        let lines = Format.table([["short side", "images"]] + rows).split(separator: "\n")
        return zip(lines, bars).map { $1.isEmpty ? String($0) : "\($0)  \($1)" }.joined(separator: "\n")
    }

    /// The first few of a list, under its name. Each is a line: a line break is one of a file's name.
    private func listed(_ name: String, _ sentences: [String]) -> String {
        let shown = 5
        let rest =
            sentences.count > shown ? ["… and \(Format.grouped(sentences.count - shown)) more; --json names all"] : []
        return ([name] + (sentences.prefix(shown) + rest).map { "  " + escaped($0) }).joined(separator: "\n")
    }

    /// The census as a JSON object.
    var report: some Encodable {
        struct Report: Encodable {
            struct Class: Encodable {
                let name: String
                let images: Int
            }
            struct Range: Encodable {
                let from, to, images: Int
            }
            struct Unread: Encodable {
                let path, reason: String
            }
            let place: String?
            let images, fileBytes, transparent, sixteenBit, clipped, oriented, wrongChecksums: Int
            let classes: [Class]
            let formats: [String: Int]
            let smallest, median, largest: [Int]?
            let shortSides: [Range]
            let clippedPaths: [String]
            let unreadable: [Unread]
            let copies: [[String]]
            let copiesAcrossClasses: Int
            let imagesPerSecond: Double?
        }
        func pair(_ size: Size?) -> [Int]? { size.map { [$0.width, $0.height] } }
        return Report(
            place: place, images: count, fileBytes: fileBytes, transparent: transparent, sixteenBit: sixteenBit,
            clipped: clipped.count, oriented: oriented, wrongChecksums: wrongChecksums,
            classes: classes.map { .init(name: $0.name, images: $0.images) },
            formats: Dictionary(uniqueKeysWithValues: formats.map { ($0.name, $0.images) }),
            smallest: pair(sizes?.smallest), median: pair(sizes?.median), largest: pair(sizes?.largest),
            shortSides: shortSides.map {
                .init(from: $0.sides.lowerBound, to: $0.sides.upperBound, images: $0.images)
            },
            clippedPaths: clipped,
            unreadable: unreadable.map { .init(path: $0.path, reason: $0.reason.text(in: Flags())) },
            copies: copies.map(\.paths), copiesAcrossClasses: copies.count { $0.isAcrossClasses },
            imagesPerSecond: imagesPerSecond)
    }
}
