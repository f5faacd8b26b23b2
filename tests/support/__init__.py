"""What several tests share: real servers and real data, no stand-ins for Sealift's own code."""
