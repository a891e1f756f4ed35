"""What the pages about results share: one HTML file, texts in two languages, a lightbox, tables that can be sorted."""
