"""The backend behind the server: the job queue, the model thread, uploaded images."""
