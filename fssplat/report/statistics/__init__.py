"""How certain is a difference between two methods?"""
