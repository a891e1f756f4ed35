"""What several writers need: labels, class numbers, polygons, file names, format loss."""
