"""What the person on call sees and does in the admin: the dashboard, and a user's X-ray.

Stands above the cache layer and the services; neither knows it.
"""
