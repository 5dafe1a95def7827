import CCodecs
public func pngVersion() -> Int { Int(png_access_version_number()) }
