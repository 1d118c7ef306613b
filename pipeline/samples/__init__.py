"""A procedural archive of inspection pictures: parts and surfaces, their defects, masks, labels and hostile files."""
